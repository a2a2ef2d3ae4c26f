//! Draws the conclusion from what was counted.

use crate::formats::Format;
use crate::names::Hint;
use crate::subject::Subject;
use crate::tally::Tally;

/// How sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// The name alone, or a few values of many.
    Low,
    /// The name, where values can't confirm it much; or the form of nearly all values, where other values may have it, too.
    Medium,
    /// Name and values say the same, or half of the values have a form that nothing else has.
    High,
}

impl Confidence {
    /// In lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The name of a field class; `None` for ciphertext whose content the name doesn't tell.
    pub class: Option<&'static str>,
    /// Values that look like it.
    pub matches: u64,
    /// Values that were looked at.
    pub sampled: u64,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why, for people. Holds no value.
    pub note: String,
}

/// A finding with its subject.
pub type Judgement = (Option<Subject>, Finding);

/// What is at a place; `None` if it is nothing that has to be protected, or is protected already.
pub fn judge(tally: &Tally) -> Option<Judgement> {
    if tally.seen > 0 && tally.sealed == tally.seen {
        return None;
    }
    let by_hint = tally.hint.and_then(|hint| by_hint(hint, tally));
    let by_form = by_form(tally).or_else(|| by_parts(tally));
    ciphertext(tally).or_else(|| match (by_hint, by_form) {
        (Some(hint), Some(form)) if form.1.confidence > hint.1.confidence => Some(form),
        (None, form) => form,
        (hint, _) => hint,
    })
}

fn finding(
    subject: Option<Subject>,
    confidence: Confidence,
    matches: u64,
    tally: &Tally,
    note: String,
) -> Judgement {
    let class = subject.and_then(|subject| subject.class().name());
    (subject, Finding { class, matches, sampled: tally.seen, confidence, note })
}

fn ciphertext(tally: &Tally) -> Option<Judgement> {
    let (scheme, count) = tally.scheme()?;
    let confidence = match () {
        () if 2 * count >= tally.seen => Confidence::High,
        () if count >= 3 => Confidence::Medium,
        () => Confidence::Low,
    };
    let note = format!("ciphertext: {count} of {} values are {}", tally.seen, scheme.label());
    Some(finding(tally.hint.map(|hint| hint.subject), confidence, count, tally, note))
}

/// What the form of values says by itself.
fn by_form(tally: &Tally) -> Option<Judgement> {
    let (format, count) = tally.most()?;
    let confidence = match () {
        () if !format.is_certain() => {
            // Others have the form now and then, but not nearly all of them.
            if count < 3 || 10 * count < 8 * tally.seen {
                return None;
            }
            let is_checked_often = format == Format::Card && count >= 10;
            if is_checked_often { Confidence::High } else { Confidence::Medium }
        }
        () if 2 * count >= tally.seen => Confidence::High,
        () if 20 * count >= tally.seen => Confidence::Medium,
        () if count >= 2 => Confidence::Low,
        () => return None,
    };
    let note = format!("{count} of {} values {}", tally.seen, format.claim());
    Some(finding(Some(format.subject()), confidence, count, tally, note))
}

/// What is in longer texts.
fn by_parts(tally: &Tally) -> Option<Judgement> {
    let (format, count) = tally.most_within()?;
    let confidence = match () {
        () if count >= 3 && 20 * count >= tally.seen => Confidence::Medium,
        () if count >= 2 || tally.seen < 20 => Confidence::Low,
        () => return None,
    };
    let note = format!("{count} of {} values have {} in them", tally.seen, format.subject().label());
    Some(finding(Some(format.subject()), confidence, count, tally, note))
}

/// What the name says, and whether values contradict it.
fn by_hint(hint: Hint, tally: &Tally) -> Option<Judgement> {
    let subject = hint.subject;
    let (fit, seen) = (tally.fit, tally.seen);
    let what = subject.label();
    if seen == 0 {
        let note = format!("named as {what} are; there were no values to look at");
        return (!hint.needs_values).then(|| finding(Some(subject), Confidence::Low, 0, tally, note));
    }
    if matches!(subject, Subject::Health | Subject::Trait) {
        let note = format!("named as {what} is; values have no form to look for");
        return Some(finding(Some(subject), Confidence::Medium, 0, tally, note));
    }
    let confidence = match () {
        () if hint.needs_values && 10 * fit < 6 * seen => return None,
        () if hint.needs_values && subject == Subject::Card => Confidence::High,
        () if hint.needs_values || hint.is_part && 2 * fit >= seen => Confidence::Medium,
        () if 10 * fit >= 8 * seen => Confidence::High,
        () if 2 * fit >= seen => Confidence::Medium,
        () if 10 * fit >= seen => Confidence::Low,
        // Something else has this name.
        () => return None,
    };
    let note = format!("named as {what} are, and {fit} of {seen} values look like it");
    Some(finding(Some(subject), confidence, fit, tally, note))
}
