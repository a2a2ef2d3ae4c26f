//! A column: what it is called, and what was seen in it.

use crate::json::{self, ANY, Leaf};
use crate::names::{self, About, Hint};
use crate::subject::Subject;
use crate::tally::Tally;
use crate::verdict::{Confidence, Finding, Judgement, judge};
use std::collections::BTreeMap;

/// What the values of a column are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Text.
    Text,
    /// JSON.
    Json,
    /// Bytes, which may be text.
    Bytes,
    /// Numbers.
    Number,
    /// Dates, with or without a time.
    Date,
}

impl Family {
    /// Whether values of a subject can be stored so.
    fn can_hold(self, subject: Subject) -> bool {
        match self {
            Self::Text | Self::Json | Self::Bytes => true,
            Self::Date => subject == Subject::Birth,
            Self::Number => !matches!(
                subject,
                Subject::Email | Subject::Iban | Subject::Name | Subject::Trait | Subject::Health
            ),
        }
    }
}

/// A column, and counts of what was seen in it.
#[derive(Debug)]
pub struct Column {
    table: About,
    name: String,
    values: Tally,
    /// What was seen in documents, by path.
    paths: BTreeMap<String, Tally>,
}

/// So many paths of a column's documents are told apart.
const MOST_PATHS: usize = 500;
/// So many are named in a note.
const NAMED_PATHS: usize = 3;

impl Column {
    /// A column of which nothing was seen yet.
    #[must_use]
    pub fn new(table: &str, name: &str, family: Family) -> Self {
        let about = About::of(table);
        let hint = hint(name, about, family);
        Self { table: about, name: name.to_owned(), values: Tally::new(hint), paths: BTreeMap::new() }
    }

    /// A value of a text, or a document in it.
    pub fn see_text(&mut self, text: &str) {
        if !self.see_document(text) {
            self.values.see_text(text);
        }
    }

    /// A value of JSON, as text.
    pub fn see_json(&mut self, json: &str) {
        if !self.see_document(json) && json != "null" {
            self.values.see_text(json.trim_matches('"'));
        }
    }

    /// Bytes.
    pub fn see_bytes(&mut self, bytes: &[u8]) {
        match str::from_utf8(bytes) {
            Ok(text) if self.see_document(text) => {}
            _ => self.values.see_bytes(bytes),
        }
    }

    /// A number, in digits.
    pub fn see_number(&mut self, digits: &str) {
        self.values.see_number(digits);
    }

    /// The year of a date.
    pub fn see_year(&mut self, year: i32) {
        self.values.see_year(year);
    }

    fn see_document(&mut self, text: &str) -> bool {
        let Some(document) = json::parse(text) else { return false };
        self.values.see_other();
        json::each_leaf(&document, &mut |path, leaf| self.see_leaf(path, &leaf));
        true
    }

    fn see_leaf(&mut self, path: &[&str], leaf: &Leaf<'_>) {
        let (place, family) = match leaf {
            Leaf::Text(_) => (path.join("."), Family::Text),
            Leaf::Number(_) => (path.join("."), Family::Number),
            Leaf::Key(_) => (format!("keys of {}", path.join(".")), Family::Text),
        };
        if !self.paths.contains_key(&place) {
            if self.paths.len() >= MOST_PATHS {
                return;
            }
            let is_key = matches!(leaf, Leaf::Key(_));
            let hint = if is_key { None } else { self.hint_at(path, family) };
            self.paths.insert(place.clone(), Tally::new(hint));
        }
        let Some(tally) = self.paths.get_mut(&place) else { return };
        match leaf {
            Leaf::Text(text) | Leaf::Key(text) => tally.see_text(text),
            Leaf::Number(digits) => tally.see_number(digits),
        }
    }

    /// What a key says, in an object that is about what its own key says, or what is around it.
    fn hint_at(&self, path: &[&str], family: Family) -> Option<Hint> {
        let mut names: Vec<&str> = std::iter::once(self.name.as_str())
            .chain(path.iter().copied().filter(|key| *key != ANY))
            .collect();
        let name = if names.len() > 1 { names.pop()? } else { return hint(&self.name, self.table, family) };
        let about = names.iter().rev().find_map(|around| About::told(around)).unwrap_or(self.table);
        hint(name, about, family)
    }

    /// The conclusion; `None` if it holds nothing that has to be protected, or if that is protected already.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        if self.paths.is_empty() {
            return judge(&self.values).map(|(_, finding)| finding);
        }
        let mut found: Vec<(&str, Judgement)> = self
            .paths
            .iter()
            .filter_map(|(path, tally)| judge(tally).map(|judgement| (path.as_str(), judgement)))
            .collect();
        // The first of equals stays the first.
        found.sort_by_key(|(_, (_, finding))| std::cmp::Reverse((finding.confidence, finding.matches)));
        let Some((_, (_, first))) = found.first() else { return self.by_its_own_name() };
        let mut note = String::from("in documents: ");
        for (number, (path, (subject, finding))) in found.iter().take(NAMED_PATHS).enumerate() {
            let what = subject.map_or("ciphertext", Subject::label);
            let separator = if number > 0 { ", " } else { "" };
            let at = match *path {
                "" => "in arrays",
                "keys of " => "keys",
                path => path,
            };
            let confidence = if finding.confidence == Confidence::High { "" } else { ", perhaps" };
            note.push_str(&format!("{separator}{what} ({at}{confidence})"));
        }
        if found.len() > NAMED_PATHS {
            note.push_str(&format!(", and {} more", found.len() - NAMED_PATHS));
        }
        Some(Finding { note, ..first.clone() })
    }

    /// Documents of health have keys of any name.
    fn by_its_own_name(&self) -> Option<Finding> {
        self.values.hint.filter(|hint| matches!(hint.subject, Subject::Health | Subject::Trait))?;
        judge(&self.values).map(|(_, finding)| finding)
    }
}

fn hint(name: &str, about: About, family: Family) -> Option<Hint> {
    names::hint(name, about).filter(|hint| family.can_hold(hint.subject))
}

#[cfg(test)]
mod tests {
    use super::{Column, Family};
    use crate::verdict::Confidence;

    fn see(
        table: &str,
        name: &str,
        family: Family,
        values: &[&str],
    ) -> Option<(Option<&'static str>, Confidence)> {
        let mut column = Column::new(table, name, family);
        for value in values {
            match family {
                Family::Json => column.see_json(value),
                Family::Number => column.see_number(value),
                _ => column.see_text(value),
            }
        }
        column.finding().map(|finding| (finding.class, finding.confidence))
    }

    #[test]
    fn keys_are_names() {
        let high = |class| Some((Some(class), Confidence::High));
        assert_eq!(see("t", "data", Family::Json, &[r#"{"vorname": "Anna"}"#]), high("personal"));
        assert_eq!(see("users", "data", Family::Json, &[r#"{"name": "Anna"}"#]), high("personal"));
        assert_eq!(see("t", "customer", Family::Json, &[r#"{"name": "Anna"}"#]), high("personal"));
        assert_eq!(see("t", "x", Family::Json, &[r#"[{"user": {"name": "Anna"}}]"#]), high("personal"));
        assert_eq!(see("users", "data", Family::Json, &[r#"{"product": {"name": "Oak Table"}}"#]), None);
        assert_eq!(see("users", "settings", Family::Json, &[r#"{"name": "Dark"}"#]), None);
        assert_eq!(see("t", "emails", Family::Json, &[r#"["anna@example.org"]"#]), high("email"));
        assert_eq!(
            see("t", "x", Family::Json, &["null", "1", r#""anna@example.org""#]).map(|(class, _)| class),
            Some(Some("email"))
        );
    }

    #[test]
    fn few_values_of_many_count_less() {
        let mut values = vec!["x"; 99];
        values.push("anna@example.org");
        assert_eq!(see("t", "x", Family::Text, &values), None);
        values.push("anna@example.org");
        assert_eq!(see("t", "x", Family::Text, &values), Some((Some("email"), Confidence::Low)));
        values.extend(["anna@example.org"; 20]);
        assert_eq!(see("t", "x", Family::Text, &values), Some((Some("email"), Confidence::Medium)));
    }

    #[test]
    fn numbers_are_taken_for_little() {
        assert_eq!(see("t", "x", Family::Number, &["4111111111111111"; 2]), None);
        assert_eq!(
            see("t", "x", Family::Number, &["4111111111111111"; 9]),
            Some((Some("financial"), Confidence::Medium))
        );
        assert_eq!(
            see("users", "age", Family::Number, &["42"]),
            Some((Some("personal"), Confidence::Medium))
        );
        assert_eq!(see("cache", "age", Family::Number, &["42"]), None);
        assert_eq!(see("t", "email", Family::Number, &["42"]), None);
    }
}
