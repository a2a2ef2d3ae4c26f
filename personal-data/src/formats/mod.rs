//! What values look like. [`recognise`] finds forms that say by themselves what they are; [`fits`] is what is asked of values whose
//! column is called so.

mod bank;
mod email;
mod people;
mod phone;
mod tax_id;

use crate::subject::Subject;

pub use people::year_fits;

/// A form that says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// An email address.
    Email,
    /// A telephone number with its country, or written as is usual in some countries.
    Phone,
    /// An IBAN with valid check digits.
    Iban,
    /// A card number with a valid check digit, that a network may have given.
    Card,
    /// A tax or social-security identifier with valid check digits.
    TaxId,
    /// One with a weak check or none: a Spanish DNI, a US social-security number.
    WeakTaxId,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Email, Self::Phone, Self::Iban, Self::Card, Self::TaxId, Self::WeakTaxId];

    /// What such values are.
    pub fn subject(self) -> Subject {
        match self {
            Self::Email => Subject::Email,
            Self::Phone => Subject::Phone,
            Self::Iban => Subject::Iban,
            Self::Card => Subject::Card,
            Self::TaxId | Self::WeakTaxId => Subject::TaxId,
        }
    }

    /// Whether one value is enough: other values hardly ever look like it by chance.
    pub fn is_certain(self) -> bool {
        matches!(self, Self::Email | Self::Iban | Self::TaxId)
    }

    /// What to say of values that have the form.
    pub fn claim(self) -> &'static str {
        match self {
            Self::Email => "are email addresses",
            Self::Phone => "are written as telephone numbers",
            Self::Iban => "are IBANs with valid check digits",
            Self::Card => "are card numbers with a valid check digit",
            Self::TaxId => "are tax or social-security numbers with valid check digits",
            Self::WeakTaxId => "are written as tax or social-security numbers",
        }
    }
}

/// The longest text that is looked at as a whole.
const LONGEST: usize = 254;

/// What a whole text is.
pub fn recognise(text: &str) -> Option<Format> {
    if text.len() > LONGEST {
        None
    } else if email::is_address(text) {
        Some(Format::Email)
    } else if bank::is_iban(text) {
        Some(Format::Iban)
    } else if tax_id::is_checked(text) {
        Some(Format::TaxId)
    } else if tax_id::is_ssn(text) || tax_id::is_dni(text) {
        Some(Format::WeakTaxId)
    } else if bank::is_card(text) {
        Some(Format::Card)
    } else if phone::is_certain(text) {
        Some(Format::Phone)
    } else {
        None
    }
}

/// What a longer text has in it, of the formats that are certain.
pub fn recognise_within(text: &str) -> Option<Format> {
    /// So much of a text is looked at, in bytes.
    const FRONT: usize = 16_384;
    let mut end = text.len().min(FRONT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    if email::is_within(text) {
        return Some(Format::Email);
    }
    text.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| match word.len() {
        16 if tax_id::is_codice_fiscale(word) => Some(Format::TaxId),
        15.. if bank::is_iban(word) => Some(Format::Iban),
        _ => None,
    })
}

/// Whether a value looks like what the name of its column says. `None` if there is nothing to look for.
pub fn fits(subject: Subject, is_part: bool, text: &str) -> Option<bool> {
    if text.len() > LONGEST && !matches!(subject, Subject::Health | Subject::Trait) {
        return Some(false);
    }
    Some(match subject {
        Subject::Email => email::is_address(text),
        Subject::Phone => phone::is_possible(text),
        Subject::Iban => bank::is_iban(text),
        Subject::Card => bank::is_card(text) || bank::is_card_code(text),
        Subject::Account => bank::is_account(text),
        Subject::TaxId => tax_id::is_possible(text),
        Subject::Birth if is_part => people::is_age_or_year(text),
        Subject::Birth => people::is_date(text),
        Subject::Name => people::is_name(text),
        Subject::Address if is_part => people::is_place(text),
        Subject::Address => people::is_address(text),
        Subject::Income => people::is_amount(text),
        Subject::Health | Subject::Trait => return None,
    })
}

/// Whether a value is a person's name beyond doubt, where the name of the column leaves it open.
pub fn is_full_name(text: &str) -> bool {
    people::is_full_name(text)
}

/// The ASCII digits of a text that has nothing else but these separators.
fn digits_of(text: &str, separators: &[char]) -> Option<Vec<u8>> {
    let mut digits = Vec::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' => digits.push(c as u8),
            c if separators.contains(&c) => {}
            _ => return None,
        }
    }
    Some(digits)
}
