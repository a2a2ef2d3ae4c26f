//! What SQL (`sql/files/`) says of a source, and makes of a definition. It runs with the caller's rights and search path.

use crate::datatype::{ValuesShown, encoding};
use crate::datum::{Payload, Text, TextResult};
use crate::error::{Error, warn};
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use pgrx::spi::SpiTupleTable;
use prism_envelope::KeyVersion;
use std::ffi::{CStr, CString, c_int};
use std::fmt::Write;

/// The longest definition of a table in bytes.
pub const MAX_DEFINITION: usize = 16 << 20;

/// What is exported.
pub struct Exported {
    pub query: CString,
    /// JSON, in UTF-8.
    pub definition: Vec<u8>,
    /// `InvalidOid` for a query.
    pub relation: pg_sys::Oid,
    /// A result of the caller's, in the server's encoding.
    pub collection: Vec<u8>,
    pub shown: ValuesShown,
}

impl Exported {
    /// A table, a view or a query in parentheses.
    pub fn named(source: Option<Text<'_>>) -> Result<Self, Error> {
        let call = "SELECT query, definition, collection, relation, opened FROM prism_crypt._file_source($1)";
        let source = source.map(|source| Varlena::copy_of(source.0.bytes())).transpose()?;
        // In this way it also works where nothing can be written.
        let (query, definition, collection, relation, opened) = Spi::connect(|client| {
            let row = client.select(call, Some(1), &[source.map(TextResult).into()])?.first();
            let texts = (bytes_of(&row, 1)?, bytes_of(&row, 2)?, bytes_of(&row, 3)?);
            Ok::<_, pgrx::spi::Error>((
                texts.0,
                texts.1,
                texts.2,
                row.get::<pg_sys::Oid>(4)?,
                row.get::<bool>(5)?,
            ))
        })
        .map_err(|_| Error::Internal("the source of a file can't be read"))?;
        let definition = encoding::with_utf8(&definition, |text| Ok(text.to_vec()))?;
        if definition.len() >= MAX_DEFINITION {
            return Err(Error::DefinitionTooLong);
        }
        Ok(Self {
            query: CString::new(query).map_err(|_| Error::Internal("a query with a zero byte"))?,
            definition,
            relation: relation.unwrap_or(pg_sys::InvalidOid),
            collection,
            shown: if opened == Some(true) { ValuesShown::Opened } else { ValuesShown::Ciphertext },
        })
    }
}

/// The table that a definition (JSON, in the server's encoding) goes to, by default its own. Mode `new` makes it.
pub fn target_of(definition: &[u8], target: Option<Text<'_>>, mode: Text<'_>) -> Result<pg_sys::Oid, Error> {
    let call = "SELECT prism_crypt._import_target($1, $2, $3)::oid";
    let target = target.map(|target| Varlena::copy_of(target.0.bytes())).transpose()?;
    let (definition, mode) = (Varlena::copy_of(definition)?, Varlena::copy_of(mode.0.bytes())?);
    let arguments = [TextResult(definition).into(), target.map(TextResult).into(), TextResult(mode).into()];
    let relation = Spi::connect_mut(|client| client.update(call, Some(1), &arguments)?.first().get_one());
    let relation: Option<pg_sys::Oid> =
        relation.map_err(|_| Error::Internal("the target of a file can't be had"))?;
    relation.ok_or(Error::Internal("a file has no target"))
}

/// Which columns get the fields, and what is in them.
pub struct Fields {
    /// Numbers of columns, in the order of the fields.
    pub columns: Vec<i16>,
    /// Whether no field is ciphertext.
    pub opened: bool,
    /// Those that the ciphertext needs.
    key_versions: Vec<i32>,
}

impl Fields {
    /// Those of a definition in a table, which is locked: its columns stay what they are.
    pub fn of(definition: &[u8], relation: pg_sys::Oid) -> Result<Self, Error> {
        let call = "SELECT columns, opened, key_versions FROM prism_crypt._import_columns($1, $2)";
        let arguments = [TextResult(Varlena::copy_of(definition)?).into(), relation.into()];
        let (columns, opened, key_versions) = Spi::connect_mut(|client| {
            let row = client.update(call, Some(1), &arguments)?.first();
            Ok::<_, pgrx::spi::Error>((row.get::<Vec<i16>>(1)?, row.get::<bool>(2)?, row.get::<Vec<i32>>(3)?))
        })
        .map_err(|_| Error::Internal("the columns of a file can't be found"))?;
        let (columns, key_versions) = (columns.unwrap_or_default(), key_versions.unwrap_or_default());
        Ok(Self { columns, opened: opened == Some(true), key_versions })
    }

    /// Says which keys are not in this database.
    pub fn warn_of_missing_keys(&self) -> Result<(), Error> {
        let mut missing = String::new();
        for number in &self.key_versions {
            let Some(version) = KeyVersion::new(number.cast_unsigned()) else { continue };
            if !keyring::with_row(version, |row| row.is_some())? {
                let separator = if missing.is_empty() { "" } else { ", " };
                _ = write!(missing, "{separator}{number}");
            }
        }
        if !missing.is_empty() {
            let message =
                format!("values of the file need keys that are not in this database: versions {missing}");
            warn(
                &message,
                None,
                Some("Load the rows of prism_crypt.data_key from the database that they come from."),
            );
        }
        Ok(())
    }
}

/// The content of a text, empty for null.
fn bytes_of(row: &SpiTupleTable<'_>, column: usize) -> Result<Vec<u8>, pgrx::spi::Error> {
    let datum = row.get_datum_by_ordinal(column)?;
    // SAFETY: a text, which is copied before the row is freed.
    Ok(datum.map(|datum| unsafe { Payload::of(datum) }.bytes().to_vec()).unwrap_or_default())
}

/// A text in UTF-8. Raises PostgreSQL's own error if a character has no equivalent there.
pub fn in_server_encoding(utf8: &[u8]) -> Result<Vec<u8>, Error> {
    let length = c_int::try_from(utf8.len()).map_err(|_| Error::FileHeader)?;
    // SAFETY: a text in UTF-8; the result is the same pointer, or a terminated string.
    unsafe {
        let start = utf8.as_ptr().cast();
        let converted = pg_sys::pg_any_to_server(start, length, pg_sys::pg_enc::PG_UTF8.cast_signed());
        let is_same = converted.cast_const() == start;
        Ok(if is_same { utf8 } else { CStr::from_ptr(converted).to_bytes() }.to_vec())
    }
}
