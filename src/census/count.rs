//! Counts the ciphertexts in a table by key version.

use super::scan;
use super::versions::number;
use crate::datatype::nested::Leaf;
use crate::error::{Error, SqlResult};
use crate::keyring;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::KeyVersion;
use std::collections::BTreeMap;

/// One column that can hold ciphertext.
struct Column {
    number: i16,
    /// Values of `encrypted_text`; `None` counts damaged ones.
    encrypted: Counts<Option<KeyVersion>>,
    /// Envelopes in `bytea`.
    bytes: Counts<KeyVersion>,
}

/// Counts by version. Most values have the same version as the one before.
struct Counts<T> {
    last: Option<(T, i64)>,
    others: BTreeMap<T, i64>,
}

impl<T: Ord + Copy> Counts<T> {
    const fn new() -> Self {
        Self { last: None, others: BTreeMap::new() }
    }

    fn has(&self, version: T) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| *last == version) || self.others.contains_key(&version)
    }

    fn add(&mut self, version: T) {
        match &mut self.last {
            Some((last, count)) if *last == version => *count += 1,
            last => {
                if let Some((version, count)) = last.replace((version, 1)) {
                    *self.others.entry(version).or_default() += count;
                }
            }
        }
    }

    fn finish(mut self) -> BTreeMap<T, i64> {
        if let Some((version, count)) = self.last.take() {
            *self.others.entry(version).or_default() += count;
        }
        self.others
    }
}

impl Column {
    fn see(&mut self, leaf: &Leaf<'_>) -> Result<(), Error> {
        match leaf.key_version() {
            version if !leaf.is_bytes() => self.encrypted.add(version.ok()),
            // Other bytes may look like an envelope by chance, but hardly with a version that exists.
            Ok(version)
                if self.bytes.has(version) || keyring::with_row_unwinding(version, |row| row.is_some())? =>
            {
                self.bytes.add(version);
            }
            _ => {}
        }
        Ok(())
    }
}

/// `prism_crypt._count_versions(relation oid) → table(column_number smallint, is_bytes boolean, key_version integer,
/// ciphertexts bigint)`: for each column that can hold ciphertext. Empty if the relation is gone or can't be read here: a
/// temporary table of another session, an unlogged one on a standby, or anything that stores no rows itself.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it, and sees through no alias")]
fn _count_versions(
    relation: pg_sys::Oid,
) -> Result<
    TableIterator<
        'static,
        (
            name!(column_number, i16),
            name!(is_bytes, bool),
            name!(key_version, Option<i32>),
            name!(ciphertexts, i64),
        ),
    >,
    ErrorReport,
> {
    let mut rows = Vec::new();
    for column in count(relation)? {
        let at = column.number;
        rows.extend(column.encrypted.finish().into_iter().map(|(v, n)| (at, false, v.map(number), n)));
        rows.extend(column.bytes.finish().into_iter().map(|(v, n)| (at, true, Some(number(v)), n)));
    }
    Ok(TableIterator::new(rows))
}

fn count(relation: pg_sys::Oid) -> Result<Vec<Column>, Error> {
    let mut columns: Vec<Column> = Vec::new();
    scan::each_value(relation, &mut |number, leaf| match columns
        .iter_mut()
        .find(|known| known.number == number)
    {
        Some(column) => column.see(leaf),
        None => {
            let mut column = Column { number, encrypted: Counts::new(), bytes: Counts::new() };
            column.see(leaf)?;
            columns.push(column);
            Ok(())
        }
    })?;
    columns.sort_by_key(|column| column.number);
    Ok(columns)
}

/// `prism_crypt._count_outdated_tags(relation oid, keyset text) → bigint`: how many readable values of a keyset have a search tag
/// of an earlier index key.
#[pg_extern(sql = false)]
fn _count_outdated_tags(relation: pg_sys::Oid, keyset: &str) -> SqlResult<i64> {
    let mut outdated = 0;
    scan::each_value(relation, &mut |_, leaf| {
        if let (Some(tag), Ok(version)) = (leaf.search_tag(), leaf.key_version())
            && keyring::with_row_unwinding(version, |row| {
                row.is_some_and(|row| row.keyset == keyset && row.is_outdated(tag))
            })?
        {
            outdated += 1;
        }
        Ok(())
    })?;
    Ok(outdated)
}

/// `prism_crypt._last_generation(relation oid, keyset text) → integer`: the highest generation of a keyset's search tags; 0 if
/// there are none.
#[pg_extern(sql = false)]
fn _last_generation(relation: pg_sys::Oid, keyset: &str) -> SqlResult<i32> {
    let mut last = 0;
    scan::each_value(relation, &mut |_, leaf| {
        if let (Some(tag), Ok(version)) = (leaf.search_tag(), leaf.key_version())
            && keyring::with_row_unwinding(version, |row| row.is_some_and(|row| row.keyset == keyset))?
        {
            last = last.max(tag.generation().into());
        }
        Ok(())
    })?;
    Ok(last)
}
