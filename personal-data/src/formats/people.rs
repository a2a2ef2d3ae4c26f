//! What is told of people in words and plain numbers. It has no form of its own, so it counts only where the name says so.

use time::{Date, Month};

/// Years in which somebody who is in a database may be born.
pub fn year_fits(year: i32) -> bool {
    (1880..=2100).contains(&year)
}

/// Whether it is a date, in one of the usual orders.
pub fn is_date(text: &str) -> bool {
    let text = text.split(['T', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = text.split(['-', '/', '.']).collect();
    let number = |part: &str| if part.len() <= 4 { part.parse::<u16>().ok() } else { None };
    let is_valid = |year: u16, month: u16, day: u16| {
        let (Ok(month), Ok(day)) = (u8::try_from(month), u8::try_from(day)) else { return false };
        let year = i32::from(year);
        year_fits(year)
            && Month::try_from(month).is_ok_and(|month| Date::from_calendar_date(year, month, day).is_ok())
    };
    match parts[..] {
        [one] if one.len() == 8 && one.bytes().all(|b| b.is_ascii_digit()) => {
            match (number(&one[..4]), number(&one[4..6]), number(&one[6..])) {
                (Some(year), Some(month), Some(day)) => is_valid(year, month, day),
                _ => false,
            }
        }
        [a, b, c] => match (number(a), number(b), number(c)) {
            (Some(year), Some(month), Some(day)) if a.len() == 4 => is_valid(year, month, day),
            (Some(a), Some(b), Some(year)) if c.len() == 4 => is_valid(year, b, a) || is_valid(year, a, b),
            _ => false,
        },
        _ => false,
    }
}

/// An age, or the year of a birth.
pub fn is_age_or_year(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|number| (0..=125).contains(&number) || year_fits(number)) || is_date(text)
}

/// Whether it may be a name: words without digits, that begin with a capital where there are capitals.
pub fn is_name(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_word = |c: char| {
        c.is_alphabetic() || "'’.,-".contains(c) || unicode_normalization::char::is_combining_mark(c)
    };
    (1..=6).contains(&words.len())
        && text.chars().count() <= 80
        && text.chars().any(char::is_alphabetic)
        && words.iter().all(|word| word.chars().all(is_word))
        && words.iter().any(|word| word.starts_with(|c: char| !c.is_lowercase() && c.is_alphabetic()))
}

/// Whether it is a name of two words or more, each with a capital, as people's full names are.
pub fn is_full_name(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_joining = |word: &str| {
        matches!(
            word,
            "de" | "di" | "da" | "dos" | "del" | "della" | "van" | "von" | "der" | "la" | "y" | "e" | "den"
        )
    };
    is_name(text)
        && (2..=5).contains(&words.len())
        && words.iter().all(|word| {
            is_joining(word)
                || word.starts_with(|c: char| c.is_uppercase() || !c.is_lowercase() && !c.is_ascii())
        })
        && words.iter().filter(|word| word.chars().count() > 1).all(|word| {
            let mut rest = word.chars().skip(1).filter(|c| c.is_alphabetic()).peekable();
            // Abbreviations are names of other things.
            rest.peek().is_none() || rest.any(char::is_lowercase) || word.len() > 4
        })
}

/// Whether it may be an address: some words, with a number among them.
pub fn is_address(text: &str) -> bool {
    let words = text.split([' ', ',', '\n']).filter(|word| !word.is_empty()).count();
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let digits = text.chars().filter(char::is_ascii_digit).count();
    words >= 2
        && letters >= 4
        && digits >= 1
        && letters > digits / 2
        && !text.contains(['{', '}', '=', '_', '@', '<'])
        && !text.contains("://")
}

/// Whether it may be a city, a postal code, the number of a house.
pub fn is_place(text: &str) -> bool {
    let count = text.chars().count();
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || " '’.,-/()".contains(c));
    (1..=80).contains(&count)
        && is_plain
        && text.chars().any(|c| c.is_uppercase() || c.is_numeric() || !c.is_ascii())
}

/// Whether it is an amount of money.
pub fn is_amount(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=15).contains(&digits) && text.chars().filter(|c| c.is_alphabetic()).count() <= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for text in
            ["1985-12-10", "10/12/1985", "12/31/1985", "10.12.1985", "19851210", "1985-12-10T00:00:00Z"]
        {
            assert!(is_date(text), "{text}");
        }
        for text in ["", "1985-13-32", "31/31/1985", "1.2.3", "12345678", "0001-01-01", "2023-02-29"] {
            assert!(!is_date(text), "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["Anna", "Anna Maria Rossi", "O'Neil", "Jean-Luc", "李小龙", "ROSSI"] {
            assert!(is_name(text), "{text}");
        }
        for text in ["", "admin", "user_1", "octo/hello", "Level 4", "a@b.c", "{x}"] {
            assert!(!is_name(text), "{text}");
        }
        assert!(is_full_name("Anna de Rossi") && is_full_name("ROSSI MARIO"));
        assert!(!is_full_name("Anna") && !is_full_name("USB Cable") && !is_full_name("In progress"));
    }

    #[test]
    fn addresses() {
        for text in ["Via Roma 12", "221B Baker Street, London", "Hauptstraße 5\n10115 Berlin"] {
            assert!(is_address(text), "{text}");
        }
        for text in [
            "",
            "Rome",
            "10.0.0.1",
            "00:1b:44:11:3a:b7",
            "https://example.org/a b 1",
            "0x52908400098527886E0F7030069857D2E4169EE7",
        ] {
            assert!(!is_address(text), "{text}");
        }
    }
}
