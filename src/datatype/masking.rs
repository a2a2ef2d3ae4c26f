//! Masks: as much of a value as its field class lets a person recognise it by.
//!
//! The number of asterisks is fixed, so a mask does not tell the length. A value too short for its mask is hidden whole.

use prism_envelope::FieldClass;

const HIDDEN: &str = "****";
/// Digits shown of a number.
const SHOWN_DIGITS: usize = 4;
/// Digits that a number must have for any to be shown: as many stay hidden as are shown.
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
