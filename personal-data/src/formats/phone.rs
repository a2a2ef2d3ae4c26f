//! Telephone numbers. The crate `phonenumber` knows the numbers of each country, but brings 15 MB of tables to build.

use super::digits_of;
use super::people::is_date;

const SEPARATORS: [char; 6] = [' ', '(', ')', '-', '.', '/'];
/// The longest number, in digits (ITU-T E.164).
const MOST_DIGITS: usize = 15;

/// Whether it says by itself that it is a telephone number.
pub fn is_certain(text: &str) -> bool {
    is_international(text) || is_north_american(text) || is_in_pairs(text)
}

/// `+39 02 1234567`
fn is_international(text: &str) -> bool {
    let text = text.strip_prefix("tel:").unwrap_or(text);
    let Some(number) = text.strip_prefix('+') else { return false };
    let Some(digits) = digits_of(number, &SEPARATORS) else { return false };
    // `+1234567.89` is an amount.
    let is_amount = number.matches('.').count() == 1 && !number.contains([' ', '-', '(', '/']);
    (8..=MOST_DIGITS).contains(&digits.len())
        && is_country(&digits)
        && !is_amount
        && number.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a number begins with the code of a country (ITU-T E.164, list of assigned codes).
fn is_country(digits: &[u8]) -> bool {
    let code = |length: usize| {
        digits[..length].iter().fold(0_u16, |code, digit| code * 10 + u16::from(digit - b'0'))
    };
    matches!(code(1), 1 | 7)
        || matches!(
            code(2),
            20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98
        )
        || matches!(
            code(3),
            211..=213 | 216 | 218 | 220..=258 | 260..=269 | 290 | 291 | 297..=299 | 350..=359 | 370..=383 | 385..=387 | 389
                | 420 | 421 | 423 | 500..=509 | 590..=599 | 670 | 672..=683 | 685..=692 | 850 | 852 | 853 | 855 | 856
                | 880 | 886 | 960..=968 | 970..=977 | 992..=996 | 998
        )
}

/// `(212) 555-0123`, `212-555-0123`: area and exchange begin with 2 to 9, and end in other than 11.
fn is_north_american(text: &str) -> bool {
    let text = text.strip_prefix("1-").unwrap_or(text);
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect();
    let is_written_so =
        ["ddd-ddd-dddd", "(ddd) ddd-dddd", "(ddd)ddd-dddd", "ddd.ddd.dddd"].contains(&shape.as_str());
    let Some(digits) = digits_of(text, &SEPARATORS) else { return false };
    is_written_so
        && [&digits[0..3], &digits[3..6]].iter().all(|part| part[0] >= b'2')
        && &digits[1..3] != b"11"
        && &digits[4..6] != b"11"
}

/// `06 12 34 56 78`, as in France.
fn is_in_pairs(text: &str) -> bool {
    let mut parts = text.split([' ', '.', '-']);
    let is_pair = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    parts.next().is_some_and(|first| is_pair(first) && first.starts_with('0') && first != "00")
        && parts.clone().count() == 4
        && parts.all(is_pair)
}

/// Whether it may be one, in a column that is called so.
pub fn is_possible(text: &str) -> bool {
    let number = text.split(" ext").next().unwrap_or_default().split(" x").next().unwrap_or_default();
    let number = number.strip_prefix("tel:").unwrap_or(number).trim();
    let Some(digits) = digits_of(number.strip_prefix('+').unwrap_or(number), &SEPARATORS) else {
        return false;
    };
    let is_decimal = number.matches('.').count() == 1 && digits.len() + 1 == number.len();
    let is_same = digits.iter().all(|digit| Some(digit) == digits.first());
    (6..=MOST_DIGITS).contains(&digits.len()) && !is_decimal && !is_same && !is_date(number)
}

#[cfg(test)]
mod tests {
    use super::{is_certain, is_possible};

    #[test]
    fn numbers() {
        for text in [
            "+39 02 1234567",
            "+390212345678",
            "tel:+49-30-1234567",
            "(212) 555-0123",
            "212-555-0123",
            "1-212-555-0123",
            "06 12 34 56 78",
            "+1 (212) 555-0123",
        ] {
            assert!(is_certain(text) && is_possible(text), "{text}");
        }
        for text in [
            "",
            "+",
            "+02:00",
            "+12345678.90",
            "123-456-7890",
            "1.2.3",
            "2024-01-02",
            "192.168.100.200",
            "+2990",
            "00 12 34 56 78",
            "+999123456789",
        ] {
            assert!(!is_certain(text), "{text}");
        }
    }

    #[test]
    fn possible_numbers() {
        for text in
            ["02 1234567", "333 1234567", "030/123456", "0049 30 123456", "5550123", "212 555 0123 ext. 12"]
        {
            assert!(is_possible(text), "{text}");
        }
        for text in ["", "12", "iPhone 12", "2024-01-02", "000000000", "123456.78", "1234567890123456"] {
            assert!(!is_possible(text), "{text}");
        }
    }
}
