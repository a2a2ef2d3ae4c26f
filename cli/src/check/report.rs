//! What a survey has found.

use crate::output::printable;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub status: Status,
    pub database: String,
    pub role: String,
    /// `None`: the extension is not there.
    pub extension_version: Option<String>,
    pub algorithm: Option<String>,
    /// The setting that the server's master key comes from.
    pub key_source: Option<String>,
    /// Whether this session could encrypt and decrypt.
    pub enabled: Option<bool>,
    pub encrypted_values: u64,
    pub plaintext_values: u64,
    /// Where encrypted values are, or may be.
    pub encrypted: Vec<Place>,
    /// Columns that look like personal data, or hold some encrypted values among others.
    pub plaintext: Vec<Plaintext>,
    /// Migrations of columns that left plaintext in place.
    pub unfinished: Vec<Unfinished>,
    /// What could not be looked at, and why.
    pub not_seen: Vec<String>,
}

/// In a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Encrypted,
    PartlyEncrypted,
    #[default]
    NotEncrypted,
    /// Nothing was found that is not encrypted, but not everything was seen.
    Unknown,
}

/// Encrypted values at one place.
#[derive(Debug, Default, Serialize)]
pub struct Place {
    pub location: String,
    /// `table`, `view`, `default` and so on; a column of another type is `text`.
    pub kind: String,
    /// How many, by key version.
    pub values: BTreeMap<u32, u64>,
    pub damaged: u64,
    /// Whether the role might not count them.
    pub is_hidden: bool,
}

/// Values that are not encrypted.
#[derive(Debug, Serialize)]
pub struct Plaintext {
    pub location: String,
    pub class: Option<String>,
    /// How sure it is that these are personal data.
    pub confidence: Option<String>,
    pub values: u64,
    /// Text forms among them.
    pub encrypted_values: u64,
    pub note: Option<String>,
}

/// A migration.
#[derive(Debug, Serialize)]
pub struct Unfinished {
    pub location: String,
    pub state: String,
}

impl Report {
    /// Counts, and says in a word what it is.
    pub fn conclude(mut self) -> Self {
        let of_places: u64 = self.encrypted.iter().flat_map(|place| place.values.values()).sum();
        self.encrypted_values = of_places + self.plaintext.iter().map(|it| it.encrypted_values).sum::<u64>();
        self.plaintext_values = self.plaintext.iter().map(|it| it.values).sum();
        let has_plaintext = self.plaintext_values > 0 || !self.unfinished.is_empty();
        let has_none = self.encrypted.is_empty() && self.encrypted_values == 0;
        self.status = match (has_none, has_plaintext) {
            (_, false) if !self.not_seen.is_empty() => Status::Unknown,
            (true, _) => Status::NotEncrypted,
            (false, true) => Status::PartlyEncrypted,
            (false, false) => Status::Encrypted,
        };
        self
    }

    /// Whether everything is encrypted that is declared to be.
    pub fn is_as_declared(&self) -> bool {
        self.extension_version.is_some()
            && self.unfinished.is_empty()
            && self.encrypted.iter().all(|place| place.damaged == 0)
            && self.plaintext.iter().all(|it| it.encrypted_values == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Encrypted => "encrypted",
            Status::PartlyEncrypted => "partly encrypted",
            Status::NotEncrypted => "not encrypted",
            Status::Unknown => "unknown",
        };
        writeln!(f, "status:           {status}")?;
        writeln!(
            f,
            "database:         {}, seen as role {}",
            printable(&self.database),
            printable(&self.role)
        )?;
        let version = self.extension_version.as_deref().unwrap_or("not there");
        writeln!(f, "prism_crypt:      {version}")?;
        let unseen = "not seen";
        writeln!(f, "algorithm:        {}", self.algorithm.as_deref().unwrap_or(unseen))?;
        writeln!(f, "key source:       {}", self.key_source.as_deref().unwrap_or(unseen))?;
        let enabled = self.enabled.map_or(unseen, |enabled| if enabled { "yes" } else { "no" });
        writeln!(f, "key can be used:  {enabled}")?;
        writeln!(f, "encrypted values: {}", self.encrypted_values)?;
        writeln!(f, "plaintext values: {}", self.plaintext_values)?;
        section(f, "encrypted", &self.encrypted)?;
        section(f, "not encrypted", &self.plaintext)?;
        section(f, "migrations that are not finished", &self.unfinished)?;
        section(f, "not seen", &self.not_seen)
    }
}

fn section<T: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, lines: &[T]) -> fmt::Result {
    if !lines.is_empty() {
        writeln!(f, "\n{title}:")?;
    }
    lines.iter().try_for_each(|line| writeln!(f, "  {}", printable(&line.to_string())))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let damaged = (self.damaged > 0).then(|| format!("{} damaged", self.damaged));
        let by_version =
            self.values.iter().map(|(version, count)| format!("{count} of key version {version}"));
        let counts: Vec<_> = by_version.chain(damaged).collect();
        let counts = match counts.as_slice() {
            [] if self.is_hidden => "not counted".to_owned(),
            [] => "no values".to_owned(),
            counts => counts.join(", "),
        };
        write!(f, "{} ({}): {counts}", self.location, self.kind)
    }
}

impl fmt::Display for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} values", self.location, self.values)?;
        if self.encrypted_values > 0 {
            write!(f, " among {} that are encrypted", self.encrypted_values)?;
        }
        if let (Some(class), Some(confidence)) = (&self.class, &self.confidence) {
            write!(f, ", {class} ({confidence} confidence)")?;
        }
        match &self.note {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.state)?;
        if self.state == "cut_over" {
            f.write_str("; the plaintext is kept until finish_migration()")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Plaintext, Report, Status, Unfinished};

    fn report(values: u64, damaged: u64, plaintext: u64, mixed: u64) -> Report {
        let values = [(1, values)].into_iter().filter(|(_, count)| *count > 0).collect();
        let place = Place { values, damaged, ..Place::default() };
        let plain = |count| Plaintext {
            location: String::new(),
            class: None,
            confidence: None,
            values: count,
            encrypted_values: mixed,
            note: None,
        };
        Report {
            extension_version: Some("0.3.0".to_owned()),
            encrypted: vec![place],
            plaintext: if plaintext > 0 { vec![plain(plaintext)] } else { Vec::new() },
            ..Report::default()
        }
        .conclude()
    }

    #[test]
    fn what_counts() {
        for (report, status, as_declared) in [
            (report(5, 0, 0, 0), Status::Encrypted, true),
            (report(0, 0, 0, 0), Status::Encrypted, true),
            (report(5, 0, 3, 0), Status::PartlyEncrypted, true),
            (report(5, 0, 3, 2), Status::PartlyEncrypted, false),
            (report(5, 1, 0, 0), Status::Encrypted, false),
            (Report::default().conclude(), Status::NotEncrypted, false),
        ] {
            assert_eq!((report.status, report.is_as_declared()), (status, as_declared), "{report}");
        }
        for (plaintext, status, as_declared) in
            [(0, Status::Unknown, true), (3, Status::PartlyEncrypted, true)]
        {
            let mut report = report(5, 0, plaintext, 0);
            report.not_seen.push("public.t.v: the role may not SELECT it".to_owned());
            let report = report.conclude();
            assert_eq!((report.status, report.is_as_declared()), (status, as_declared), "{report}");
        }
        let mut left = report(5, 0, 0, 0);
        left.unfinished.push(Unfinished { location: String::new(), state: "cut_over".to_owned() });
        let left = left.conclude();
        assert_eq!((left.status, left.is_as_declared()), (Status::PartlyEncrypted, false));
    }
}
