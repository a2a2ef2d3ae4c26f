//! The key table of a dump: the extension's configuration tables, which pg_dump writes with the data.

use super::Dump;
use super::names::{cut_outside, split_outside};
use super::rows::{Form, Row};
use crate::copy_text::{decode, fields};
use crate::output::printable;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// The first columns of the tables, for `INSERT` that does not name them (sql/keys/tables.sql).
const DATA_KEY: [&str; 5] = ["version", "keyset", "state", "wrapped", "master_fingerprint"];
const INDEX_KEY: [&str; 5] = ["keyset", "generation", "state", "wrapped", "master_fingerprint"];
const KEYSET: [&str; 1] = ["name"];

/// A row of `prism_crypt.data_key`.
#[derive(Debug, Serialize)]
pub struct DataKey {
    pub version: u32,
    pub keyset: String,
    pub state: String,
    pub master_fingerprint: String,
}

/// A row of `prism_crypt.index_key`.
#[derive(Debug, Serialize)]
pub struct IndexKey {
    pub keyset: String,
    pub generation: u32,
    pub state: String,
    pub master_fingerprint: String,
}

/// What was found of them so far.
#[derive(Default)]
pub struct KeyTables {
    data_keys: Vec<DataKey>,
    index_keys: Vec<IndexKey>,
    keysets: BTreeSet<String>,
}

impl KeyTables {
    /// Takes a line, if it is of one of these tables.
    pub fn take(&mut self, row: &Row<'_>) {
        match row.table {
            Some("prism_crypt.data_key") => {
                for get in values(row, &DATA_KEY) {
                    self.data_keys.extend(data_key(&get));
                }
            }
            Some("prism_crypt.index_key") => {
                for get in values(row, &INDEX_KEY) {
                    self.index_keys.extend(index_key(&get));
                }
            }
            Some("prism_crypt.keyset") => {
                self.keysets.extend(values(row, &KEYSET).iter().filter_map(|get| get.of("name")));
            }
            _ => {}
        }
    }

    /// What they mean for the values of the dump.
    pub fn finish(self, dump: &mut Dump) {
        let versions = dump.versions();
        let known: BTreeSet<u32> = self.data_keys.iter().map(|key| key.version).collect();
        dump.versions_without_key = versions.difference(&known).copied().collect();
        dump.master_fingerprints_needed = self
            .data_keys
            .iter()
            .filter(|key| versions.contains(&key.version) && key.state != "destroyed")
            .map(|key| key.master_fingerprint.clone())
            .collect();
        (dump.data_keys, dump.index_keys, dump.keysets) = (self.data_keys, self.index_keys, self.keysets);
    }
}

/// The values of a row by the names of their columns.
struct Values<'a> {
    names: Vec<&'a str>,
    values: Vec<String>,
}

impl Values<'_> {
    fn of(&self, name: &str) -> Option<String> {
        self.values.get(self.names.iter().position(|it| *it == name)?).cloned()
    }
}

fn values<'a>(row: &Row<'a>, order: &[&'a str]) -> Vec<Values<'a>> {
    let names = match row.columns {
        [] => order.to_vec(),
        columns => columns.iter().map(String::as_str).collect(),
    };
    let text = String::from_utf8_lossy(row.text);
    let of_fields = |values| Values { names: names.clone(), values };
    match row.form {
        Form::Copy => {
            let field = |field| decode(field).map(|it| String::from_utf8_lossy(&it).into_owned());
            vec![of_fields(fields(row.text).map(|it| field(it).unwrap_or_default()).collect())]
        }
        Form::Insert => tuple(&text).map(|tuple| of_fields(literals(tuple))).into_iter().collect(),
        Form::Other => Vec::new(),
    }
}

/// What is between the parentheses of a line of an `INSERT`. Of several rows, each has a line.
fn tuple(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix('\t') {
        Some(rest) => rest,
        None => cut_outside(line, " VALUES ", '"')?.1,
    };
    let rest = rest.trim_end_matches([';', ',', '\r']);
    rest.strip_prefix('(')?.strip_suffix(')')
}

/// Numbers, and texts without their quotes.
fn literals(tuple: &str) -> Vec<String> {
    let literal = |text: &str| match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => text.to_owned(),
    };
    split_outside(tuple, ", ", '\'').into_iter().map(literal).collect()
}

fn data_key(get: &Values<'_>) -> Option<DataKey> {
    Some(DataKey {
        version: get.of("version")?.parse().ok()?,
        keyset: get.of("keyset")?,
        state: get.of("state")?,
        master_fingerprint: get.of("master_fingerprint")?,
    })
}

fn index_key(get: &Values<'_>) -> Option<IndexKey> {
    Some(IndexKey {
        keyset: get.of("keyset")?,
        generation: get.of("generation")?.parse().ok()?,
        state: get.of("state")?,
        master_fingerprint: get.of("master_fingerprint")?,
    })
}

impl fmt::Display for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, keyset, state, master_fingerprint } = self;
        write!(
            f,
            "data key version {version} of keyset {}: {}, wrapped by the master key {}",
            printable(keyset),
            printable(state),
            printable(master_fingerprint)
        )
    }
}

impl fmt::Display for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keyset, generation, state, master_fingerprint } = self;
        write!(
            f,
            "index key generation {generation} of keyset {}: {}, wrapped by the master key {}",
            printable(keyset),
            printable(state),
            printable(master_fingerprint)
        )
    }
}
