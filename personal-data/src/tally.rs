//! What was seen at one place: in a column, or at a path in its documents. Only counts, no value.

use crate::ciphertext::{self, Scheme};
use crate::formats::{self, Format};
use crate::names::Hint;
use crate::subject::Subject;

/// Counts of values.
#[derive(Debug, Default)]
pub struct Tally {
    pub hint: Option<Hint>,
    /// All but nulls and blank texts.
    pub seen: u64,
    /// Encrypted by us, in a `bytea`.
    pub sealed: u64,
    /// Values that look like what the name says.
    pub fit: u64,
    whole: [u64; Format::ALL.len()],
    within: [u64; Format::ALL.len()],
    schemes: [u64; Scheme::ALL.len()],
}

impl Tally {
    pub fn new(hint: Option<Hint>) -> Self {
        Self { hint, ..Self::default() }
    }

    pub fn see_text(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.seen += 1;
        if let Some(scheme) = Scheme::of_text(text) {
            self.schemes[scheme as usize] += 1;
            return;
        }
        self.fit_text(text);
        if let Some(format) = formats::recognise(text) {
            self.whole[format as usize] += 1;
        } else if let Some(format) = formats::recognise_within(text) {
            self.within[format as usize] += 1;
        }
    }

    /// Of all formats, only cards have so many digits that a number says something by itself.
    pub fn see_number(&mut self, digits: &str) {
        self.seen += 1;
        self.fit_text(digits);
        if formats::recognise(digits) == Some(Format::Card) {
            self.whole[Format::Card as usize] += 1;
        }
    }

    pub fn see_bytes(&mut self, bytes: &[u8]) {
        let is_text = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
        if ciphertext::is_sealed(bytes) {
            self.seen += 1;
            self.sealed += 1;
        } else if let Some(text) = str::from_utf8(bytes).ok().filter(is_text) {
            self.see_text(text);
        } else {
            self.seen += 1;
            if let Some(scheme) = Scheme::of_bytes(bytes) {
                self.schemes[scheme as usize] += 1;
            }
        }
    }

    pub fn see_year(&mut self, year: i32) {
        self.seen += 1;
        self.fit += u64::from(formats::year_fits(year));
    }

    /// A value of which nothing but its existence counts.
    pub fn see_other(&mut self) {
        self.seen += 1;
    }

    fn fit_text(&mut self, text: &str) {
        let Some(hint) = self.hint else { return };
        let fits = match hint.subject {
            Subject::Name if hint.needs_values => formats::is_full_name(text),
            subject => formats::fits(subject, hint.is_part, text).unwrap_or_default(),
        };
        self.fit += u64::from(fits);
    }

    /// The format that most values have.
    pub fn most(&self) -> Option<(Format, u64)> {
        most(&self.whole, &Format::ALL)
    }

    /// The format that most values have, as a whole or within a text. Counts only what is certain.
    pub fn most_within(&self) -> Option<(Format, u64)> {
        let (format, _) = most(&self.within, &Format::ALL)?;
        Some((format, self.within[format as usize] + self.whole[format as usize]))
    }

    /// The scheme that most values are encrypted with.
    pub fn scheme(&self) -> Option<(Scheme, u64)> {
        most(&self.schemes, &Scheme::ALL)
    }
}

fn most<T: Copy>(counts: &[u64], all: &[T]) -> Option<(T, u64)> {
    let (place, count) =
        counts.iter().enumerate().max_by_key(|(place, count)| (**count, std::cmp::Reverse(*place)))?;
    all.get(place).map(|one| (*one, *count)).filter(|(_, count)| *count > 0)
}
