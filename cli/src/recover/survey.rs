//! The first reading: what is known of each database before its rows are opened.

use super::catalog::{Catalog, is_key_table};
use super::encoding::Encoding;
use super::follow::{Follow, follow, is_connect};
use super::script::{Piece, Script};
use super::source::Source;
use crate::copy_text::{decode, fields};
use crate::csv::Reader;
use crate::error::{Error, Result};
use crate::sql::Sql;
use prism_envelope::MasterKey;
use std::borrow::Cow;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// How rows of the extension's own tables begin. Others need not be read the first time.
const OWN_INSERTS: [&[u8]; 2] = [b"INSERT INTO prism_crypt.", b"INSERT INTO \"prism_crypt\"."];

/// With what a dump begins, or a statement of one.
const TRACES: [&str; 13] = [
    "alter", "begin", "comment", "copy", "create", "do", "drop", "grant", "insert", "revoke", "select",
    "set", "start",
];
const TITLE: &[u8] = b"-- PostgreSQL database ";

/// Each database of a dump in the order of its `\connect`; a dump without one is the first. And whether anything of a dump is there.
///
/// # Errors
/// Those of the dump.
pub fn survey(source: &Source) -> Result<(Vec<Catalog>, bool)> {
    let mut script = Script::new(source.read(false)?);
    let mut catalogs = vec![Catalog::default()];
    let mut is_dump = false;
    loop {
        let dialect = script.dialect;
        let Some(piece) = script.next()? else { return Ok((catalogs, is_dump)) };
        let follows = match piece {
            Piece::Line(line) => {
                is_dump |= line.starts_with(TITLE);
                if is_connect(line) {
                    catalogs.push(Catalog::default());
                }
                continue;
            }
            Piece::Statement(statement) => {
                let Some(catalog) = catalogs.last_mut() else { continue };
                if statement.starts_with(b"INSERT INTO ")
                    && !OWN_INSERTS.iter().any(|own| statement.starts_with(own))
                {
                    (catalog.has_rows, is_dump) = (true, true);
                    continue;
                }
                let sql = Sql::new(statement, dialect);
                is_dump |= sql.is_one_of(0, &TRACES);
                catalog.see(&sql);
                follow(&sql)
            }
        };
        match follows {
            Follow::Statement => {}
            Follow::Encoding(name) => script.set_encoding(Encoding::of(&name)?),
            Follow::Backslashes(backslashes) => script.dialect.backslashes = backslashes,
            Follow::Rows(rows) => {
                let Some(catalog) = catalogs.last_mut() else { continue };
                let is_key_table = is_key_table(&rows.table);
                while let Some(row) = script.next_row()? {
                    catalog.has_rows = true;
                    if is_key_table {
                        let values: Vec<_> =
                            fields(row).map(|field| decode(field).map(Cow::into_owned)).collect();
                        catalog.add_key(&rows.columns, &values);
                    }
                }
            }
        }
    }
}

/// Adds the rows of the key table from a file of CSV with a header.
///
/// # Errors
/// [`Error::File`], [`Error::Csv`], [`Error::Dump`] if it has none.
pub fn add_keys(path: &Path, catalogs: &mut [Catalog]) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::file("open", path, error))?;
    let mut reader = Reader::new(BufReader::new(file));
    let mut record = || -> Result<Option<Vec<Option<Vec<u8>>>>> {
        let mut values = Vec::new();
        let is_there = reader.read_record(|field| {
            values.push(field.map(<[u8]>::to_vec));
            Ok(())
        })?;
        Ok(is_there.then_some(values))
    };
    let names: Vec<_> = record()?.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect();
    let mut found = false;
    while let Some(values) = record()? {
        for catalog in catalogs.iter_mut() {
            found |= catalog.add_key(&names, &values);
        }
    }
    if found {
        return Ok(());
    }
    Err(Error::Dump {
        message: format!("file \"{}\" has no data keys", path.display()),
        detail: None,
        hint: Some("It is what COPY prism_crypt.data_key TO … (FORMAT csv, HEADER) writes."),
    })
}

/// The error for what is no dump.
pub fn no_dump() -> Error {
    Error::Dump {
        message: "nothing of a dump was found".to_owned(),
        detail: None,
        hint: Some("It is what pg_dump or pg_dumpall writes."),
    }
}

/// Whether there is something to open, and a key for it, as far as can be told without looking at values.
///
/// # Errors
/// [`Error::Dump`] if there are no keys, [`Error::KeyMismatch`] if not one of them can be unwrapped.
pub fn check_keys(catalogs: &mut [Catalog], master_keys: &[MasterKey]) -> Result<()> {
    let needs_keys = |catalog: &&mut Catalog| catalog.has_rows && !catalog.encrypted_names.is_empty();
    let mut missing = None;
    for catalog in catalogs.iter_mut().filter(needs_keys) {
        missing = missing.or(match catalog.keyring.unusable(master_keys) {
            _ if catalog.keyring.is_empty() => Some(Error::Dump {
                message: "the dump has no data keys".to_owned(),
                detail: Some(
                    "They are in dumps of a whole database, not in those of some tables.".to_owned(),
                ),
                hint: Some("Give the key table with --keys."),
            }),
            Some(row) => Some(Error::KeyMismatch {
                wrapped: format!("Key version {} of keyset \"{}\"", row.version, row.keyset),
                expected: row.master_fingerprint,
                loaded: master_keys.iter().map(|key| key.fingerprint().to_string()).collect(),
            }),
            // Another database of the same dump may have other keys.
            None => return Ok(()),
        });
    }
    missing.map_or(Ok(()), Err)
}
