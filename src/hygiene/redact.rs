//! What is secret in a text, and how it is taken out in place.

use super::naming;
use memchr::{memchr, memmem};
use std::ffi::{CStr, c_char};

const WITHHELD: &[u8] = b"withheld by prism_crypt";
const ASTERISKS: &[u8] = b"***";
/// The shortest text of a key is 43 characters of base64. What is this long may be most of one.
const LONG_WORD: usize = 20;

/// Whether a text holds one of the keys in a setting's value.
pub fn holds_key(text: &[u8], keys: &[u8]) -> bool {
    keys.split(|byte| byte.is_ascii_whitespace() || *byte == b',')
        .any(|key| key.len() >= LONG_WORD && memmem::find(text, key).is_some())
}

/// Takes the literals out of a statement, at the same length: blank from its first quote, or from the setting's name, on.
/// It still names the setting, so that what quotes it later (the detail of an EXECUTE) is known for what it is.
pub fn blank_literals(text: &mut [u8]) {
    let quote = text.iter().position(|byte| matches!(byte, b'\'' | b'"' | b'$'));
    let name = naming::find(text);
    let start = match (quote, name) {
        (Some(quote), Some(name)) if quote < name.end => quote.min(name.start),
        (_, Some(name)) => name.end,
        (quote, None) => quote.unwrap_or(text.len()),
    };
    let rest = &mut text[start..];
    rest.fill(b'*');
    if let Some(name) = rest.get_mut(1..=naming::SETTING.len()) {
        name.copy_from_slice(naming::SETTING);
    }
}

/// Where `: "…` begins to quote. Other languages have other quotes, some a blank before the colon.
pub fn after_colon_and_quote(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b':', text).map(|colon| after_colon(text, colon)).find(|at| is_quote(text.get(*at)))
}

/// Where something is quoted, or told after a colon.
pub fn first_quoted(text: &[u8]) -> Option<usize> {
    let colon = memchr(b':', text).map(|colon| after_colon(text, colon));
    let quote = QUOTES.iter().filter_map(|quote| memmem::find(text, quote)).min();
    let at = [colon, quote].into_iter().flatten().min();
    // Quotes of encodings that are not UTF-8 are not known here.
    let before = &text[..at.unwrap_or(text.len())];
    if before.is_ascii() || std::str::from_utf8(text).is_ok() { at } else { Some(0) }
}

/// `"`, and the quotes of PostgreSQL's translations in UTF-8.
const QUOTES: [&[u8]; 6] =
    [b"\"", b"\xc2\xab", b"\xc2\xbb", b"\xe2\x80\x9c", b"\xe2\x80\x9d", b"\xe2\x80\x9e"];

fn is_quote(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| *byte == b'"' || !byte.is_ascii())
}

/// What follows a colon, and its blank.
pub fn after_colon(text: &[u8], colon: usize) -> usize {
    colon + if text.get(colon + 1) == Some(&b' ') { 2 } else { 1 }
}

/// Changes a field where it stands, at its length.
///
/// # Safety
/// `field` is null, or a terminated string in writable memory that nothing else refers to.
pub unsafe fn edit(field: *mut c_char, change: impl FnOnce(&mut [u8])) {
    if field.is_null() {
        return;
    }
    // SAFETY: as promised by the caller; the terminator stays out of it.
    unsafe {
        let length = CStr::from_ptr(field).count_bytes();
        change(std::slice::from_raw_parts_mut(field.cast(), length));
    }
}

/// Overwrites a whole text.
pub fn overwrite(text: &mut [u8]) {
    cut(text, |_| Some(0));
}

/// Overwrites a text from the first `part` on.
pub fn cut_from(text: &mut [u8], part: &[u8]) {
    cut(text, |text| memmem::find(text, part));
}

/// Overwrites a text from where `start` says, if it says so. Zero bytes fill it up. Doing it again changes nothing.
pub fn cut(text: &mut [u8], start: impl Fn(&[u8]) -> Option<usize>) {
    let Some(rest) = start(text).and_then(|at| text.get_mut(at..)) else { return };
    let shown = if rest.len() >= WITHHELD.len() { WITHHELD } else { ASTERISKS };
    let kept = shown.len().min(rest.len());
    rest.fill(0);
    rest[..kept].copy_from_slice(&shown[..kept]);
}

/// Overwrites every word that is as long as a key's text may be.
pub fn blank_long_words(text: &mut [u8]) {
    let in_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    for word in text.split_mut(|byte| !in_word(*byte)).filter(|word| word.len() >= LONG_WORD) {
        word.fill(b'*');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, change: impl Fn(&mut [u8])) -> String {
        let mut bytes = text.as_bytes().to_vec();
        change(&mut bytes);
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    #[test]
    fn finds_each_key_of_several() {
        let (one, other) = ("a".repeat(64), "b".repeat(44));
        let keys = format!("{one},\n {other}");
        assert!(holds_key(format!("x{one}").as_bytes(), keys.as_bytes()));
        assert!(holds_key(other.as_bytes(), keys.as_bytes()));
        assert!(!holds_key(b"x", b" ,x"));
    }

    #[test]
    fn blanks_literals_and_keeps_the_length() {
        for (text, blanked) in [
            ("SET prism_crypt.master_key = 'abc'", "SET prism_crypt.master_key********"),
            ("SET prism_crypt.master_key TO abc", "SET prism_crypt.master_key*******"),
            ("SET \"prism_crypt\".master_key TO x", "SET *prism_crypt.master_key******"),
            ("SET prism_crypt.\"master_key\" TO x", "SET *prism_crypt.master_key******"),
            ("DO $$ prism_crypt.master_key $$", "DO *prism_crypt.master_key*****"),
            ("SET U&\"prism_crypt.\\006daster_key\" TO x", "SET U&*prism_crypt.master_key**********"),
            ("SHOW x", "SHOW x"),
        ] {
            let got = changed(text, blank_literals);
            assert_eq!(got, blanked, "{text}");
            assert_eq!(naming::find(got.as_bytes()).is_some(), text != "SHOW x", "{text}");
        }
    }

    #[test]
    fn takes_secrets_out_in_place() {
        let key = "0123456789abcdef".repeat(4);
        let message = format!("identifier \"{key}\" will be truncated");
        let masked = format!("identifier \"{}\" will be truncated", "*".repeat(64));
        assert_eq!(changed(&message, blank_long_words), masked);
        assert_eq!(changed("prism_crypt.master_key", blank_long_words), "prism_crypt.master_key");
        assert_eq!(changed("Failing row contains (1, x).", overwrite), "withheld by prism_crypt");
        assert_eq!(changed("parameters: $1 = 'x'", |text| cut_from(text, b"$1 = ")), "parameters: ***");
    }

    #[test]
    fn finds_what_is_quoted_in_every_language() {
        for (text, shown) in [
            ("COPY t, line 1, column a: \"secret\"", "COPY t, line 1, column a: "),
            ("COPY t, ligne 1, colonne a : « secret »\nSQL: \"x\"", "COPY t, ligne 1, colonne a : "),
            ("COPY t, Zeile 1, Spalte a: »secret«", "COPY t, Zeile 1, Spalte a: "),
            ("tのCOPY、行 1、列 a: \"secret\"", "tのCOPY、行 1、列 a: "),
        ] {
            assert_eq!(after_colon_and_quote(text.as_bytes()), Some(shown.len()), "{text}");
            assert_eq!(first_quoted(text.as_bytes()), Some(shown.len()), "{text}");
        }
        for (text, shown) in [
            ("value \"99\" is out of range", Some("value ")),
            ("la valeur « 99 » est en dehors", Some("la valeur ")),
            ("numeric field overflow", None),
        ] {
            assert_eq!(first_quoted(text.as_bytes()), shown.map(str::len), "{text}");
        }
        // Latin 1.
        assert_eq!(first_quoted(b"la valeur \xab 99 \xbb est"), Some(0));
    }
}
