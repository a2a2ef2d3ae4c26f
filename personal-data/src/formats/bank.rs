//! Numbers of accounts and cards.

use super::digits_of;
use iban::Iban;

/// Whether it is an IBAN of a country that has them, with valid check digits.
pub fn is_iban(text: &str) -> bool {
    let front = text.as_bytes();
    if !(15..=42).contains(&text.len())
        || !front[..2].iter().all(u8::is_ascii_alphabetic)
        || !front[2..4].iter().all(u8::is_ascii_digit)
    {
        return false;
    }
    text.to_ascii_uppercase().parse::<Iban>().is_ok()
}

/// Whether it is the number of a card: with a valid check digit (Luhn), and as long as the network's that it begins with
/// (ISO/IEC 7812).
pub fn is_card(text: &str) -> bool {
    if !(13..=23).contains(&text.len()) {
        return false;
    }
    let groups: Vec<usize> = text.split([' ', '-']).map(str::len).collect();
    let is_written_so = matches!(groups[..], [_] | [4, 4, 4, 4] | [4, 6, 5] | [4, 6, 4] | [4, 4, 4, 4, 3]);
    let Some(digits) = digits_of(text, &[' ', '-']).filter(|digits| is_written_so && digits.len() >= 13)
    else {
        return false;
    };
    let front = digits[..4].iter().fold(0_u16, |front, digit| front * 10 + u16::from(digit - b'0'));
    let may_be = match front {
        4000..=4999 => matches!(digits.len(), 13 | 16),
        5100..=5599 | 2221..=2720 | 6011 | 6440..=6599 | 3528..=3589 | 2200..=2204 => digits.len() == 16,
        3400..=3499 | 3700..=3799 => digits.len() == 15,
        3000..=3059 | 3600..=3699 | 3800..=3899 => digits.len() == 14,
        6200..=6299 => (16..=19).contains(&digits.len()),
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => (13..=19).contains(&digits.len()),
        _ => false,
    };
    may_be && luhn3::decimal::valid(&digits)
}

/// The code on the back of a card.
pub fn is_card_code(text: &str) -> bool {
    matches!(text.len(), 3 | 4) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether it may be the number of an account, in a column that is called so.
pub fn is_account(text: &str) -> bool {
    let letters = text.chars().filter(char::is_ascii_alphanumeric).count();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || " -./".contains(c));
    is_iban(text) || is_plain && (6..=34).contains(&letters) && digits >= 6 && digits * 4 >= letters * 3
}

#[cfg(test)]
mod tests {
    use super::{is_account, is_card, is_iban};

    #[test]
    fn ibans() {
        for text in ["IT60X0542811101000000123456", "DE89 3704 0044 0532 0130 00", "gb82west12345698765432"] {
            assert!(is_iban(text), "{text}");
        }
        for text in
            ["", "IT60X0542811101000000123457", "XX60X0542811101000000123456", "DE89", "é9123456789012345"]
        {
            assert!(!is_iban(text), "{text}");
        }
    }

    #[test]
    fn cards() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5555-5555-5555-4444",
            "378282246310005",
            "3782 822463 10005",
            "30569309025904",
        ] {
            assert!(is_card(text), "{text}");
        }
        for text in [
            "",
            "4111111111111112",
            "41111111 11111111",
            "0000000000000000",
            "353918000000000",
            "1700000000000000",
        ] {
            assert!(!is_card(text), "{text}");
        }
    }

    #[test]
    fn accounts() {
        assert!(["12345678", "000012345678", "12-34-56 12345678"].into_iter().all(is_account));
        assert!(!["4000", "Cash", "", "ABCDEFGH"].into_iter().any(is_account));
    }
}
