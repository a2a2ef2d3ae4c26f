//! A key as words of BIP-39, with the crate `bip39`.

use crate::error::{Error, Result};
use bip39::{Language, Mnemonic};
use prism_envelope::{KEY_LEN, KeyBytes};
use zeroize::Zeroizing;

/// The words of 256 bits and 8 check bits, 11 bits each.
pub const COUNT: usize = 24;
/// So many letters tell all words apart (BIP-39, "Wordlist"); shorter words are told by all of theirs.
const PREFIX: usize = 4;
/// More words than these are not looked at.
const MAX: usize = 2 * COUNT;

/// The words of a key. Wiped when dropped.
///
/// # Errors
/// None: a key has one of the lengths that BIP-39 knows.
pub fn of_key(key: &KeyBytes) -> Result<Mnemonic> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    hex::decode_to_slice(key.to_hex().as_bytes(), bytes.as_mut_slice()).map_err(|_| Error::WordChecksum)?;
    Mnemonic::from_entropy_in(Language::English, bytes.as_slice()).map_err(|_| Error::WordChecksum)
}

/// The words in a text, but for numbers and lines that begin with `#`.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|sign: char| sign.is_whitespace() || matches!(sign, ',' | ';')))
        .filter(|word| word.chars().any(|sign| !sign.is_ascii_digit() && sign != '.'))
}

/// The key of words, of which the first letters are enough.
///
/// # Errors
/// [`Error::UnknownWords`], [`Error::WordCount`], [`Error::WordChecksum`].
pub fn to_key(text: &str) -> Result<KeyBytes> {
    // Their numbers in the list: words themselves would leave pointers to the list behind.
    let (mut found, mut unknown) = (Zeroizing::new(Vec::with_capacity(MAX)), Vec::new());
    for (number, word) in listed(text).take(MAX).enumerate() {
        match number_of(word) {
            Some(index) => found.push(index),
            None => unknown.push((number + 1, word.chars().take(40).collect())),
        }
    }
    let count = found.len() + unknown.len();
    if !unknown.is_empty() {
        return Err(Error::UnknownWords(unknown));
    }
    if count != COUNT {
        return Err(Error::WordCount { count, expected: COUNT });
    }
    let mut phrase = Zeroizing::new(String::with_capacity(COUNT * 9));
    for index in found.iter() {
        phrase.push_str(Language::English.word_list().get(usize::from(*index)).copied().unwrap_or_default());
        phrase.push(' ');
    }
    let mnemonic =
        Mnemonic::parse_in_normalized(Language::English, &phrase).map_err(|_| Error::WordChecksum)?;
    let (bytes, length) = mnemonic.to_entropy_array();
    let bytes = Zeroizing::new(bytes);
    let digits = Zeroizing::new(hex::encode(bytes.get(..length).unwrap_or_default()));
    KeyBytes::parse(&digits).map_err(|_| Error::WordChecksum)
}

/// The number of the word that this is, or that it begins and no other one.
fn number_of(typed: &str) -> Option<u16> {
    let typed = Zeroizing::new(typed.to_lowercase());
    let mut candidates = Language::English.words_by_prefix_iter(&typed);
    let only = candidates.next().filter(|_| typed.len() >= PREFIX && candidates.next().is_none());
    Language::English.find_word(&typed).or_else(|| Language::English.find_word(only?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(bytes: [u8; KEY_LEN]) -> KeyBytes {
        KeyBytes::parse(&hex::encode(bytes)).unwrap()
    }

    /// BIP-39's own test vectors, <https://github.com/trezor/python-mnemonic/blob/master/vectors.json>: 256 bits.
    #[test]
    fn vectors() {
        for (byte, word, last) in [
            (0x00, "abandon", "art"),
            (0x7f, "legal", "title"),
            (0x80, "letter", "bless"),
            (0xff, "zoo", "vote"),
        ] {
            let words: Vec<_> = of_key(&key([byte; KEY_LEN])).unwrap().words().collect();
            assert_eq!((words.len(), words[0], words[23]), (COUNT, word, last));
        }
    }

    proptest! {
        #[test]
        fn keys_come_back(bytes: [u8; KEY_LEN], is_short: bool, is_upper: bool) {
            let words = of_key(&key(bytes)).unwrap();
            let mut typed = String::new();
            for (number, word) in words.words().enumerate() {
                let word: String = word.chars().take(if is_short { PREFIX } else { usize::MAX }).collect();
                typed += &format!("{}. {}\n", number + 1, if is_upper { word.to_uppercase() } else { word });
            }
            prop_assert_eq!(to_key(&typed).unwrap().to_hex().to_string(), hex::encode(bytes));
        }

        /// 8 check bits: one wrong word in 256 is not noticed, so what comes of it is at least another key.
        #[test]
        fn a_wrong_word_is_no_silent_success(bytes: [u8; KEY_LEN], at in 0..COUNT, other in 0_usize..2048) {
            let mut words: Vec<_> = of_key(&key(bytes)).unwrap().words().collect();
            let other = Language::English.word_list()[other];
            prop_assume!(words[at] != other);
            words[at] = other;
            match to_key(&words.join(" ")) {
                Err(Error::WordChecksum) => {}
                other => prop_assert_ne!(other.unwrap().to_hex().to_string(), hex::encode(bytes)),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let words = of_key(&key([7; KEY_LEN])).unwrap().words().collect::<Vec<_>>().join(" ");
        let unknown = to_key(&words.replacen(' ', " abandonn ", 1)).err().unwrap();
        assert_eq!(unknown.to_string(), "not in the list of words: 2. \"abandonn\"");
        assert!(matches!(to_key("abandon abandon").err(), Some(Error::WordCount { count: 2, expected: 24 })));
        assert!(matches!(to_key(&"zoo ".repeat(24)).err(), Some(Error::WordChecksum)));
        // A short word is not the longer ones that it begins; three letters are too few.
        assert_eq!(number_of("act"), Language::English.find_word("act"));
        assert_eq!(number_of("aba"), None);
        assert_eq!(number_of("aban"), Some(0));
    }
}
