//! Takes names of columns and tables apart into words.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longer names are cut off. PostgreSQL's have at most 63 bytes, keys of JSON may have any length.
const LONGEST: usize = 100;
/// Words that only join others.
const JOINING: [&str; 21] = [
    "of", "the", "de", "del", "della", "dello", "di", "da", "das", "do", "dos", "du", "des", "la", "le",
    "el", "il", "der", "von", "fuer", "d",
];

/// The words of a name in lower case and without marks: `dataDiNascita`, `data_nascita` and `DATA-NASCITA` are the same.
pub fn words(name: &str) -> Vec<String> {
    let plain: String = name.chars().take(LONGEST).nfkd().filter(|c| !is_combining_mark(*c)).collect();
    let mut words = vec![String::new()];
    let mut before = ' ';
    let mut chars = plain.chars().peekable();
    while let Some(c) = chars.next() {
        // `homePhone`, and `IBANCode`: the last capital begins a word.
        let begins = c.is_uppercase()
            && (before.is_lowercase()
                || before.is_uppercase() && chars.peek().is_some_and(|next| next.is_lowercase()));
        let turns = c.is_numeric() != before.is_numeric() && before.is_alphanumeric();
        if !c.is_alphanumeric() || begins || turns {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            match c {
                'ß' | 'ẞ' => word.push_str("ss"),
                'ø' | 'Ø' => word.push('o'),
                'æ' | 'Æ' => word.push_str("ae"),
                'ł' | 'Ł' => word.push('l'),
                c => word.extend(c.to_lowercase()),
            }
        }
        before = c;
    }
    words.retain(|word| !word.is_empty() && !JOINING.contains(&word.as_str()));
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn names_come_apart() {
        for (name, expected) in [
            ("first_name", "first name"),
            ("firstName", "first name"),
            ("FIRST-NAME", "first name"),
            ("IBANCode", "iban code"),
            ("address_line1", "address line 1"),
            ("data_di_nascita", "data nascita"),
            ("Téléphone portable", "telephone portable"),
            ("Straße", "strasse"),
            ("", ""),
            ("___", ""),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
    }
}
