//! Masks: the part of a value that its field class shows, so that a person can recognise it.
//!
//! The number of asterisks is fixed, so a mask does not reveal the length. A value too short for its mask is hidden entirely.

use prism_envelope::FieldClass;

const HIDDEN: &str = "****";
/// How many digits of a number are shown.
const SHOWN_DIGITS: usize = 4;
/// How many digits a number needs for any to be shown: at least as many stay hidden.
const MIN_DIGITS: usize = 2 * SHOWN_DIGITS;

/// The mask of a text of this class.
pub fn mask(class: FieldClass, text: &str) -> String {
    match class {
        FieldClass::Email => mask_email(text),
        FieldClass::Phone | FieldClass::TaxId | FieldClass::Financial => mask_number(text),
        FieldClass::Personal => mask_word(text),
        FieldClass::None | FieldClass::Query | FieldClass::Health => HIDDEN.to_owned(),
    }
}

/// The first character and the domain.
fn mask_email(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((local, domain)) if local.chars().count() > 1 && !domain.is_empty() => {
            let first: String = local.chars().take(1).collect();
            format!("{first}{HIDDEN}@{domain}")
        }
        _ => HIDDEN.to_owned(),
    }
}

/// The last four digits.
fn mask_number(text: &str) -> String {
    let digits: Vec<char> = text.chars().filter(|character| character.is_numeric()).collect();
    if digits.len() < MIN_DIGITS {
        return HIDDEN.to_owned();
    }
    HIDDEN.chars().chain(digits[digits.len() - SHOWN_DIGITS..].iter().copied()).collect()
}

/// The first character.
fn mask_word(text: &str) -> String {
    if text.chars().count() < 2 {
        return HIDDEN.to_owned();
    }
    text.chars().take(1).chain(HIDDEN.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::mask;
    use prism_envelope::FieldClass::{Email, Financial, Health, None, Personal, Phone, Query, TaxId};

    #[test]
    fn shows_what_the_class_lets_one_recognise() {
        for (class, text, masked) in [
            (Email, "alice@example.com", "a****@example.com"),
            (Email, "山田@例え.jp", "山****@例え.jp"),
            (Email, "a@example.com", "****"),
            (Email, "not an address", "****"),
            (Email, "alice@", "****"),
            (Phone, "+49 (30) 1234-5678", "****5678"),
            (Phone, "12345", "****"),
            (TaxId, "078-05-1120", "****1120"),
            (Financial, "4111 1111 1111 1111", "****1111"),
            (Personal, "Ζωή", "Ζ****"),
            (Personal, "X", "****"),
            (Query, "back pain", "****"),
            (Health, "E11.9", "****"),
            (None, "anything", "****"),
            (Email, "", "****"),
        ] {
            assert_eq!(mask(class, text), masked, "{class:?} {text}");
        }
    }
}
