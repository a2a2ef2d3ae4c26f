//! Finds what is secret in a text, and overwrites it in place.

use memchr::{memchr, memmem, memrchr};
use std::ffi::{CStr, c_char};
use std::ops::Range;

const WITHHELD: &[u8] = b"withheld by prism_crypt";
const ASTERISKS: &[u8] = b"***";
/// The shortest text of a key is 43 characters of base64. A word of this many bytes may be a large part of one.
const LONG_WORD: usize = 20;

/// Overwrites each key of a setting's value, wherever it stands in a text. Returns whether there was any.
pub fn overwrite_keys(text: &mut [u8], keys: &[u8]) -> bool {
    let mut found = false;
    for key in keys_of(keys) {
        let mut from = 0;
        while let Some(at) = memmem::find(&text[from..], key) {
            text[from + at..from + at + key.len()].fill(b'*');
            from += at + key.len();
            found = true;
        }
    }
    found
}

/// Whether a text holds one of the keys in a setting's value.
pub fn holds_key(text: &[u8], keys: &[u8]) -> bool {
    keys_of(keys).any(|key| memmem::find(text, key).is_some())
}

/// The parts of a setting's value that are long enough to be secret.
fn keys_of(keys: &[u8]) -> impl Iterator<Item = &[u8]> {
    keys.split(|byte| !is_key_like(*byte)).filter(|key| key.len() >= LONG_WORD)
}

/// Whether a value is among those noted before, which are separated by zero bytes.
pub fn is_among(value: &[u8], values: &[u8]) -> bool {
    values.split(|byte| *byte == 0).any(|one| one == value)
}

/// Whether a word is in a text, in upper or lower case.
pub fn has_word(text: &[u8], word: &[u8]) -> bool {
    let Some(first) = word.first() else { return true };
    memchr::memchr2_iter(first.to_ascii_lowercase(), first.to_ascii_uppercase(), text)
        .any(|at| text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word)))
}

/// The characters of hex and base64.
fn is_key_like(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// The words that are long enough to be a large part of a key, and use only its characters.
pub fn key_like_words(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() {
            let start = at + text[at..].iter().position(|byte| is_key_like(*byte))?;
            at = text[start..]
                .iter()
                .position(|byte| !is_key_like(*byte))
                .map_or(text.len(), |end| start + end);
            if at - start >= LONG_WORD {
                return Some(start..at);
            }
        }
        None
    })
}

/// Overwrites such words.
pub fn blank_key_like(text: &mut [u8]) {
    let words: Vec<_> = key_like_words(text).collect();
    for word in words {
        text[word].fill(b'*');
    }
}

/// Overwrites lists of as many numbers: that is how parse trees show the bytes of a string, over several lines.
pub fn blank_number_lists(text: &mut [u8]) {
    let is_of_list = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b' ' | b'\n');
    for list in text.split_mut(|byte| !is_of_list(*byte)) {
        let numbers = list.split(|byte| !byte.is_ascii_digit()).filter(|number| !number.is_empty());
        if numbers.count() > LONG_WORD {
            for byte in list.iter_mut().filter(|byte| **byte != b'\n') {
                *byte = b'*';
            }
        }
    }
}

/// Where the next line about a process begins: `Process 123: …` in any language.
pub fn next_process(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', text).map(|end| end + 1).find(|start| {
        let line = &text[*start..];
        let word = line.iter().take(40).take_while(|byte| !byte.is_ascii_whitespace()).count();
        let digits = line.get(word + 1..).unwrap_or_default();
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let after = digits.get(count..).unwrap_or_default();
        word > 0 && count > 0 && (after.starts_with(b": ") || after.starts_with(b" : "))
    })
}

/// Overwrites the values in `$1 = 'x', $2 = 'y'` whose number `is_secret`.
pub fn blank_parameters(text: &mut [u8], is_secret: impl Fn(usize) -> bool) {
    let mut at = 0;
    while let Some(dollar) = text.get(at..).and_then(|rest| memchr(b'$', rest)) {
        at += dollar + 1;
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let open = at + digits + b" = '".len();
        if digits == 0 || text.get(at + digits..open) != Some(b" = '") {
            continue;
        }
        let number = std::str::from_utf8(&text[at..at + digits]).ok().and_then(|digits| digits.parse().ok());
        at = open;
        if !is_secret(number.unwrap_or(usize::MAX)) {
            continue;
        }
        while let Some(byte) = text.get_mut(at) {
            if *byte != b'\'' {
                *byte = b'*';
                at += 1;
            } else if text.get(at + 1) == Some(&b'\'') {
                text[at..at + 2].fill(b'*');
                at += 2;
            } else {
                break;
            }
        }
    }
}

/// Where the quote in `: "…` begins. Other languages have other quotes, and some a blank before the colon.
pub fn after_colon_and_quote(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b':', text).map(|colon| after_colon(text, colon)).find(|at| is_quote(text.get(*at)))
}

/// Where the first quote begins, or what follows the first colon.
pub fn first_quoted(text: &[u8]) -> Option<usize> {
    let colon = memchr(b':', text).map(|colon| after_colon(text, colon));
    let quote = QUOTES.iter().filter_map(|quote| memmem::find(text, quote)).min();
    let at = [colon, quote].into_iter().flatten().min();
    // Quotes in encodings other than UTF-8 are not known here.
    let before = &text[..at.unwrap_or(text.len())];
    if before.is_ascii() || std::str::from_utf8(text).is_ok() { at } else { Some(0) }
}

/// `"`, and the quotes of PostgreSQL's translations in UTF-8.
const QUOTES: [&[u8]; 6] =
    [b"\"", b"\xc2\xab", b"\xc2\xbb", b"\xe2\x80\x9c", b"\xe2\x80\x9d", b"\xe2\x80\x9e"];

fn is_quote(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| *byte == b'"' || !byte.is_ascii())
}

/// Where the text after a colon and its blank begins.
pub fn after_colon(text: &[u8], colon: usize) -> usize {
    colon + if text.get(colon + 1) == Some(&b' ') { 2 } else { 1 }
}

/// Changes a field in place, without changing its length.
///
/// # Safety
/// `field` is null, or a terminated string in writable memory that nothing else refers to.
pub unsafe fn edit(field: *mut c_char, change: impl FnOnce(&mut [u8])) {
    if field.is_null() {
        return;
    }
    // SAFETY: as promised by the caller; the slice excludes the terminator.
    unsafe {
        let length = CStr::from_ptr(field).count_bytes();
        change(std::slice::from_raw_parts_mut(field.cast(), length));
    }
}

/// Overwrites a whole text.
pub fn overwrite(text: &mut [u8]) {
    cut(text, |_| Some(0));
}

/// Overwrites the values in `Key (email)=(ada@example.org) already exists.`, in any language: from the first `)=(` to the last
/// parenthesis. Clients read the columns there. Doing it again changes nothing.
pub fn overwrite_key_values(text: &mut [u8]) {
    let start = memmem::find(text, b")=(").map(|at| at + b")=(".len());
    let values = start.zip(memrchr(b')', text)).filter(|(start, end)| start <= end);
    let Some((start, end)) = values else { return overwrite(text) };
    let shown = [&b"withheld"[..], ASTERISKS, b"*", b""].into_iter().find(|word| word.len() <= end - start);
    let shown = shown.unwrap_or_default();
    text[start..start + shown.len()].copy_from_slice(shown);
    text.copy_within(end.., start + shown.len());
    let length = text.len();
    text[length - (end - start - shown.len())..].fill(0);
}

/// Overwrites a text from the first `part` on.
pub fn cut_from(text: &mut [u8], part: &[u8]) {
    cut(text, |text| memmem::find(text, part));
}

/// Overwrites a text from the position that `start` gives, if any, and fills the rest with zero bytes. Doing it again changes
/// nothing.
pub fn cut(text: &mut [u8], start: impl Fn(&[u8]) -> Option<usize>) {
    let Some(rest) = start(text).and_then(|at| text.get_mut(at..)) else { return };
    let shown = if rest.len() >= WITHHELD.len() { WITHHELD } else { ASTERISKS };
    let kept = shown.len().min(rest.len());
    rest.fill(0);
    rest[..kept].copy_from_slice(&shown[..kept]);
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
    fn overwrites_each_key_of_several() {
        let (one, other) = ("a".repeat(64), "b".repeat(44));
        let keys = format!("{one},\n {other}");
        let (stars, others) = ("*".repeat(64), "*".repeat(44));
        let blank = |text: &mut [u8]| assert!(overwrite_keys(text, keys.as_bytes()));
        assert_eq!(changed(&format!("x{one} {one}y"), blank), format!("x{stars} {stars}y"));
        assert_eq!(changed(&format!("'{other}'"), blank), format!("'{others}'"));
        assert!(!overwrite_keys(&mut b"x".to_vec(), b" ,x") && holds_key(one.as_bytes(), keys.as_bytes()));
    }

    #[test]
    fn takes_secrets_out_in_place() {
        let key = "0123456789abcdef".repeat(4);
        let message = format!("identifier \"{key}\" will be truncated");
        let masked = format!("identifier \"{}\" will be truncated", "*".repeat(64));
        assert_eq!(changed(&message, blank_key_like), masked);
        assert_eq!(changed("prism_crypt.master_key", blank_key_like), "prism_crypt.master_key");
        let bytes = "[ 12 -3 4 ]".to_owned() + &" 112".repeat(30);
        assert_eq!(changed(&bytes, blank_number_lists), "[ 12 -3 4 ]".to_owned() + &"*".repeat(120));
        // As PostgreSQL breaks the lines of a tree, whose numbers may have three digits.
        let line = format!("\n {}", "112 ".repeat(18));
        let stars = format!("\n{}", "*".repeat(line.len() - 1));
        assert_eq!(changed(&line.repeat(4), blank_number_lists), stars.repeat(4));
        assert_eq!(changed(&line, blank_number_lists), line);
        let parameters = "parameters: $1 = 'x''y', $2 = NULL, $3 = '12' $ $4 = 'z";
        assert_eq!(
            changed(parameters, |text| blank_parameters(text, |_| true)),
            "parameters: $1 = '****', $2 = NULL, $3 = '**' $ $4 = '*"
        );
        assert_eq!(
            changed(parameters, |text| blank_parameters(text, |number| number == 3)),
            "parameters: $1 = 'x''y', $2 = NULL, $3 = '**' $ $4 = 'z"
        );
        assert_eq!(changed("Failing row contains (1, x).", overwrite), "withheld by prism_crypt");
        for (key, shown) in [
            ("Key (email)=(ada@example.org) already exists.", "Key (email)=(withheld) already exists."),
            ("Key (a, \"b)=(c\")=(1, x)=(y) is not there.", "Key (a, \"b)=(withheld) is not there."),
            ("Key (e)=(one) conflicts with existing key (e)=(two).", "Key (e)=(withheld)."),
            ("Der Schlüssel »(a)=(abcd)« existiert.", "Der Schlüssel »(a)=(***)« existiert."),
            ("Key (a)=() already exists.", "Key (a)=() already exists."),
            ("Key (a)=(ab) is (here", "Key (a)=(*) is (here"),
            ("no key =(a) here", "***"),
        ] {
            assert_eq!(changed(key, overwrite_key_values), shown);
            assert_eq!(changed(shown, overwrite_key_values), shown);
        }
        assert_eq!(changed("parameters: $1 = 'x'", |text| cut_from(text, b"$1 = ")), "parameters: ***");
    }

    #[test]
    fn tells_the_statements_of_several_processes_apart() {
        let text = b"Process 1: SELECT '\n a 12: b\nProzess 23 : SET\nx 4:y";
        assert_eq!(next_process(text).map(|at| &text[at..]), Some(&b"Prozess 23 : SET\nx 4:y"[..]));
        assert_eq!(next_process(b"Process 1: a\nb"), None);
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
