//! What is told on standard error: values that were not opened, statements that were left out, and a summary.

use super::keyring::Reason;
use super::values::Opener;
use crate::sql::QualifiedName;
use prism_envelope::KeyVersion;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Values of one column that are next to each other and not opened for the same reason.
struct Run {
    first: u64,
    last: u64,
}

/// Collects what is to be told. Messages hold names and row numbers, never a value.
#[derive(Default)]
pub struct Report {
    runs: BTreeMap<(String, Reason), Run>,
    /// How many values were not opened.
    pub not_opened: u64,
    /// Whether the dump was read to an end that is its own.
    pub is_complete: bool,
    /// By table, rows and values that were opened.
    tables: BTreeMap<QualifiedName, (u64, u64)>,
    versions: BTreeMap<KeyVersion, u64>,
    left_out: Vec<String>,
}

impl Report {
    /// A value of a row (from 1) was not opened.
    pub fn failed(&mut self, table: &QualifiedName, column: &[u8], row: u64, reason: Reason) {
        self.not_opened += 1;
        let place = format!("{table}, column {}", String::from_utf8_lossy(column));
        let key = (place, reason);
        match self.runs.get_mut(&key) {
            Some(run) if row <= run.last + 1 => run.last = row,
            Some(run) => {
                tell_run(&key.0, &key.1, run);
                *run = Run { first: row, last: row };
            }
            None => {
                self.runs.insert(key, Run { first: row, last: row });
            }
        }
    }

    /// A constant in a statement was not opened.
    pub fn failed_in(&mut self, statement: &str, reason: &Reason) {
        self.not_opened += 1;
        tell(&format!("{statement}: {reason}"));
    }

    /// Some rows of a table, and how many values were opened in them.
    pub fn rows(&mut self, table: &QualifiedName, rows: u64, opened: u64) {
        let counts = self.tables.entry(table.clone()).or_default();
        counts.0 += rows;
        counts.1 += opened;
    }

    /// No rows of the same table follow.
    pub fn end_of_table(&mut self) {
        for ((place, reason), run) in std::mem::take(&mut self.runs) {
            tell_run(&place, &reason, &run);
        }
    }

    /// Something is not in the new dump.
    pub fn left_out(&mut self, what: String) {
        self.left_out.push(what);
    }

    /// A database is complete.
    pub fn end_of_database(&mut self, opener: &Opener<'_>) {
        self.end_of_table();
        for (version, count) in &opener.opened {
            *self.versions.entry(*version).or_default() += count;
        }
        for version in opener.opened_disabled() {
            tell(&format!("key version {version} is disabled; its values were opened all the same"));
        }
    }

    /// Tells what was done.
    pub fn summary(&self) {
        for what in &self.left_out {
            tell(&format!("left out: {what}"));
        }
        let rows: u64 = self.tables.values().map(|(rows, _)| rows).sum();
        let opened: u64 = self.versions.values().sum();
        let with_values = self.tables.values().filter(|(_, opened)| *opened > 0).count();
        tell(&format!(
            "{} tables, {rows} rows; {opened} values opened, in {with_values} tables",
            self.tables.len()
        ));
        for (version, count) in &self.versions {
            tell(&format!("values of key version {version}: {count}"));
        }
        if opened > 0 {
            tell("there is no right to decrypt any more: whoever may read a table reads the plaintext");
        }
    }
}

fn tell_run(place: &str, reason: &Reason, run: &Run) {
    if run.first == run.last {
        tell(&format!("{place}, row {}: {reason}", run.first));
    } else {
        tell(&format!("{place}, rows {} to {}: {reason}", run.first, run.last));
    }
}

/// A line on standard error.
pub fn tell(line: &str) {
    // A name may have any characters, and a terminal would obey some.
    let line: String =
        line.chars().map(|character| if character.is_control() { '?' } else { character }).collect();
    // What tests say is shown if they fail.
    if cfg!(test) {
        return eprintln!("{line}");
    }
    // There is nobody else to tell.
    let _ = writeln!(io::stderr().lock(), "prism-crypt: {line}");
}
