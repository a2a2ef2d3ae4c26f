//! A plain dump: how many encrypted values it has, and the key table that travels with it.

mod keys;
mod names;
mod rows;
mod values;

use crate::error::{Error, Result};
use crate::output::printable;
use keys::{DataKey, IndexKey, KeyTables};
use rows::Place;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;

/// What is in a dump.
#[derive(Debug, Default, Serialize)]
pub struct Dump {
    pub columns: Vec<Column>,
    pub keysets: BTreeSet<String>,
    pub data_keys: Vec<DataKey>,
    pub index_keys: Vec<IndexKey>,
    /// Master keys that data keys of values in this dump are wrapped by.
    pub master_fingerprints_needed: BTreeSet<String>,
    /// Key versions of values whose data key does not travel with them.
    pub versions_without_key: BTreeSet<u32>,
}

/// Encrypted values at one place.
#[derive(Debug, Serialize)]
pub struct Column {
    /// As SQL writes it; nothing for what stands outside of rows, as in definitions.
    pub table: Option<String>,
    /// Not known in dumps by INSERT.
    pub column: Option<String>,
    /// How many, by key version.
    pub values: BTreeMap<u32, u64>,
    /// What begins like a value and is none.
    pub malformed: u64,
}

impl Dump {
    /// Reads it line by line.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn read(from: &mut dyn BufRead) -> Result<Self> {
        let mut place = Place::default();
        let mut keys = KeyTables::default();
        let mut found: BTreeMap<(Option<String>, Option<String>), Column> = BTreeMap::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            if from.read_until(b'\n', &mut line).map_err(Error::Input)? == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let Some(row) = place.advance(text) else { continue };
            keys.take(&row);
            for (field, value) in values::of_row(&row) {
                let column = field.and_then(|number| row.columns.get(number)).cloned();
                let key = (row.table.map(str::to_owned), column);
                let at = found.entry(key).or_insert_with_key(|(table, column)| Column {
                    table: table.clone(),
                    column: column.clone(),
                    values: BTreeMap::new(),
                    malformed: 0,
                });
                match value {
                    Some(version) => *at.values.entry(version).or_default() += 1,
                    None => at.malformed += 1,
                }
            }
        }
        let mut dump = Self { columns: found.into_values().collect(), ..Self::default() };
        keys.finish(&mut dump);
        Ok(dump)
    }

    /// Whether nothing of prism_crypt is in it.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.keysets.is_empty() && self.data_keys.is_empty()
    }

    /// The key versions of its values.
    pub fn versions(&self) -> BTreeSet<u32> {
        self.columns.iter().flat_map(|column| column.values.keys().copied()).collect()
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: u64 = self.columns.iter().flat_map(|column| column.values.values()).sum();
        writeln!(f, "dump, {values} encrypted values in {} places", self.columns.len())?;
        for column in &self.columns {
            let place = match (&column.table, &column.column) {
                (Some(table), Some(column)) => format!("{table}, column {column}"),
                (Some(table), None) => table.clone(),
                _ => "outside of rows".to_owned(),
            };
            let by_version: Vec<_> = column
                .values
                .iter()
                .map(|(version, count)| format!("{count} of key version {version}"))
                .chain((column.malformed > 0).then(|| format!("{} malformed", column.malformed)))
                .collect();
            writeln!(f, "  {}: {}", printable(&place), by_version.join(", "))?;
        }
        if self.data_keys.is_empty() {
            writeln!(f, "no data keys travel with it")?;
        }
        for key in &self.data_keys {
            writeln!(f, "{key}")?;
        }
        for key in &self.index_keys {
            writeln!(f, "{key}")?;
        }
        let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        let needed = self.master_fingerprints_needed.iter().map(|it| printable(it)).collect();
        writeln!(f, "master keys needed: {}", list(needed))?;
        if !self.versions_without_key.is_empty() {
            let missing = self.versions_without_key.iter().map(u32::to_string).collect();
            writeln!(f, "key versions whose key is not in it: {}", list(missing))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Dump;
    use proptest::prelude::*;

    proptest! {
        /// Whatever it is given, there is an answer.
        #[test]
        fn every_text_is_read(parts in proptest::collection::vec(prop_oneof![
            Just("COPY prism_crypt.data_key (version) FROM stdin;\n".to_owned()), Just("COPY \"a (b\" FROM stdin;\n".to_owned()),
            Just("INSERT INTO prism_crypt.data_key VALUES (".to_owned()), Just("\\.\n".to_owned()), Just("prism:v1:".to_owned()),
            Just("\\\\x01".to_owned()), Just("\t(1, 'a".to_owned()), Just("--".to_owned()), "[\\x00-\\x7f\u{e9}]{0,9}",
        ], 0..40)) {
            let text = parts.concat();
            let dump = Dump::read(&mut text.as_bytes()).unwrap();
            prop_assert!(dump.to_string().lines().count() >= 3);
        }
    }
}
