//! Identifiers that a state gives to a person.

use super::digits_of;

/// Whether it is one with valid check digits, of a form that hardly anything else has.
pub fn is_checked(text: &str) -> bool {
    is_codice_fiscale(text) || is_nir(text) || is_cpf(text)
}

/// What characters count in the odd places of an Italian *codice fiscale*: 0 to 9 and A to Z, in this order. Decree of the
/// Minister of Finance of 23 December 1976, No. 13813, article 12.
const ODD: [u16; 36] = [
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14,
    16, 10, 22, 25, 24, 23,
];

/// Whether it is an Italian *codice fiscale* of a person: `RSSMRA85T10A562S`.
pub fn is_codice_fiscale(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let bytes = text.as_bytes();
    if bytes.len() != 16 || !bytes.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    // Where two people would have the same, letters replace digits (article 6).
    let digit = |b: u8| {
        if b.is_ascii_digit() {
            Some(b - b'0')
        } else {
            b"LMNPQRSTUV".iter().position(|l| *l == b).map(|n| n as u8)
        }
    };
    let has_form = bytes.iter().enumerate().all(|(place, b)| match place {
        0..=5 | 11 | 15 => b.is_ascii_uppercase(),
        8 => b"ABCDEHLMPRST".contains(b),
        _ => digit(*b).is_some(),
    });
    let (Some(tens), Some(ones)) = (digit(bytes[9]), digit(bytes[10])) else { return false };
    // 40 is added for women.
    let is_day = matches!(tens * 10 + ones, 1..=31 | 41..=71);
    let value = |b: u8| if b.is_ascii_digit() { b - b'0' } else { b - b'A' };
    let sum: u16 = bytes[..15]
        .iter()
        .enumerate()
        .map(|(place, b)| match place % 2 {
            // The first place is an odd one.
            0 => ODD[usize::from(value(*b)) + if b.is_ascii_digit() { 0 } else { 10 }],
            _ => value(*b).into(),
        })
        .sum();
    has_form && is_day && u16::from(bytes[15] - b'A') == sum % 26
}

/// Whether it is a French social-security number with its key, which is 97 less the remainder of the rest.
fn is_nir(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_uppercase()).collect();
    if compact.len() != 15 || !compact.is_ascii() || text.len() > 21 {
        return false;
    }
    // Corsica: 2A counts as 19, and 2B as 18.
    let compact = compact.replacen("2A", "19", 1).replacen("2B", "18", 1);
    let (Ok(number), Ok(key)) = (compact[..13].parse::<u64>(), compact[13..].parse::<u64>()) else {
        return false;
    };
    let is_month = matches!(compact[3..5].parse::<u8>(), Ok(1..=12 | 20..=42));
    matches!(compact.as_bytes()[0], b'1' | b'2') && is_month && 97 - number % 97 == key
}

/// Whether it is a Brazilian CPF as it is written: `529.982.247-25`.
fn is_cpf(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect();
    shape == "ddd.ddd.ddd-dd"
        && digits_of(text, &['.', '-']).is_some_and(|digits| cpf_digits_are_valid(&digits))
}

fn cpf_digits_are_valid(digits: &[u8]) -> bool {
    let check = |length: usize| {
        let sum: usize = digits[..length]
            .iter()
            .enumerate()
            .map(|(place, d)| usize::from(d - b'0') * (length + 1 - place))
            .sum();
        (sum * 10 % 11 % 10) as u8 + b'0'
    };
    digits.len() == 11
        && digits.iter().any(|d| *d != digits[0])
        && check(9) == digits[9]
        && check(10) == digits[10]
}

/// Whether it is a Spanish DNI or NIE: `12345678Z`, `X1234567L`. The letter is the remainder by 23.
pub fn is_dni(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    if compact.len() != 9 || !compact.is_ascii() || text.len() > 11 {
        return false;
    }
    let (number, letter) = compact.split_at(8);
    let number = match number.as_bytes()[0] {
        b'X' => format!("0{}", &number[1..]),
        b'Y' => format!("1{}", &number[1..]),
        b'Z' => format!("2{}", &number[1..]),
        _ => number.to_owned(),
    };
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    is_number
        && number
            .parse::<usize>()
            .is_ok_and(|n| b"TRWAGMYFPDXBNJZSQVHLCKE".get(n % 23) == letter.as_bytes().first())
}

/// Whether it is written as a US social-security number, and may have been given.
pub fn is_ssn(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, group, serial] = parts[..] else { return false };
    let is_number = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    is_number(area, 3)
        && is_number(group, 2)
        && is_number(serial, 4)
        && !matches!(area, "000" | "666")
        && !area.starts_with('9')
        && group != "00"
        && serial != "0000"
}

/// Whether it may be one of any country, in a column that is called so.
pub fn is_possible(text: &str) -> bool {
    let letters = text.chars().filter(char::is_ascii_alphanumeric).count();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || " -./".contains(c));
    is_plain && (7..=21).contains(&letters) && digits >= 5
}

#[cfg(test)]
mod tests {
    use super::{is_checked, is_codice_fiscale, is_dni, is_ssn};

    #[test]
    fn with_check_digits() {
        for text in [
            "RSSMRA85T10A562S",
            "rssmra85t10a562s",
            "1 84 12 76 451 089 46",
            "184127645108946",
            "529.982.247-25",
        ] {
            assert!(is_checked(text), "{text}");
        }
        for text in [
            "",
            "RSSMRA85T10A562T",
            "RSSMRA85T99A562S",
            "184127645108947",
            "529.982.247-26",
            "111.111.111-11",
            "ABCDEFGHIJKLMNOP",
        ] {
            assert!(!is_checked(text), "{text}");
        }
    }

    #[test]
    fn letters_for_digits_count_as_such() {
        // The same with the last digit replaced, and its own check character.
        let valid = (b'A'..=b'Z')
            .filter(|check| is_codice_fiscale(&format!("RSSMRA85T10A56N{}", *check as char)))
            .count();
        assert_eq!(valid, 1);
    }

    #[test]
    fn of_spain() {
        assert!(["12345678Z", "X1234567L", "12345678-Z"].into_iter().all(is_dni));
        assert!(!["12345678A", "123456789", "ABCDEFGHI", ""].into_iter().any(is_dni));
    }

    #[test]
    fn of_the_united_states() {
        assert!(is_ssn("123-45-6789"));
        for text in [
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-6789",
            "123-45-0000",
            "123456789",
            "2024-01-02",
            "",
        ] {
            assert!(!is_ssn(text), "{text}");
        }
    }
}
