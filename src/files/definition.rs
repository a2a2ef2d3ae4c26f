//! What SQL (`sql/files/`) says of a source, and makes of a definition. It runs with the caller's rights and search path.

use crate::datatype::{ValuesShown, encoding};
use crate::datum::{Payload, Text, TextResult};
use crate::error::Error;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use pgrx::spi::SpiTupleTable;
use std::ffi::{CStr, CString, c_int};

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

/// Where rows go.
pub struct Target {
    pub relation: pg_sys::Oid,
    /// Numbers of columns, in the order of the fields.
    pub columns: Vec<i16>,
    /// Whether no field is ciphertext.
    pub opened: bool,
}

impl Target {
    /// The table that a definition (JSON, in UTF-8) goes to, by default its own. Mode `new` makes it.
    pub fn of(definition: &[u8], target: Option<Text<'_>>, mode: Text<'_>) -> Result<Self, Error> {
        let call = "SELECT relation::oid, columns, opened FROM prism_crypt._import_target($1, $2, $3)";
        let target = target.map(|target| Varlena::copy_of(target.0.bytes())).transpose()?;
        let mode = Varlena::copy_of(mode.0.bytes())?;
        let definition = in_server_encoding(definition)?;
        let (relation, columns, opened) = Spi::connect_mut(|client| {
            let arguments =
                [TextResult(definition).into(), target.map(TextResult).into(), TextResult(mode).into()];
            let row = client.update(call, Some(1), &arguments)?.first();
            Ok::<_, pgrx::spi::Error>((
                row.get::<pg_sys::Oid>(1)?,
                row.get::<Vec<i16>>(2)?,
                row.get::<bool>(3)?,
            ))
        })
        .map_err(|_| Error::Internal("the target of a file can't be had"))?;
        Ok(Self {
            relation: relation.ok_or(Error::Internal("a file has no target"))?,
            columns: columns.unwrap_or_default(),
            opened: opened == Some(true),
        })
    }
}

/// The content of a text, empty for null.
fn bytes_of(row: &SpiTupleTable<'_>, column: usize) -> Result<Vec<u8>, pgrx::spi::Error> {
    let datum = row.get_datum_by_ordinal(column)?;
    // SAFETY: a text, which is copied before the row is freed.
    Ok(datum.map(|datum| unsafe { Payload::of(datum) }.bytes().to_vec()).unwrap_or_default())
}

/// Raises PostgreSQL's own error if a character has no equivalent there.
fn in_server_encoding(utf8: &[u8]) -> Result<Varlena, Error> {
    let length = c_int::try_from(utf8.len()).map_err(|_| Error::FileHeader)?;
    // SAFETY: a text in UTF-8; the result is the same pointer, or a terminated string.
    unsafe {
        let start = utf8.as_ptr().cast();
        let converted = pg_sys::pg_any_to_server(start, length, pg_sys::pg_enc::PG_UTF8.cast_signed());
        let is_same = converted.cast_const() == start;
        Varlena::copy_of(if is_same { utf8 } else { CStr::from_ptr(converted).to_bytes() })
    }
}
