//! Words that may be the key of a file, in texts whose paths, names of tables and queries have to stay readable.
//!
//! A word is a run of letters, digits, `+` and `/`, with at most two `=` at its end. It may be a key if it is as long as one, or
//! [`SHORTEST`] bytes of hex, or as many of base64 in which small letters, capitals and digits are mixed: a key that was cut. What
//! a `.`, `_` or `-` joins to another word is a part of a name, and what begins with `/` a path, unless it is exactly a key.

use super::lexer::{Dialect, Kind, Lexer};
use super::view::View;
use std::ops::Range;

/// A word of this many bytes may be a large part of a key, whose shortest text is 43 characters.
const SHORTEST: usize = 20;
/// The digits of 32 bytes.
const HEX_LEN: usize = 64;
/// The characters of 32 bytes in base64, without padding.
const BASE64_LEN: usize = 43;

/// The words of a text that may be a key.
pub fn likely_keys(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || next(text, &mut at))
}

/// The next one from `at` on, which moves behind it.
fn next(text: &[u8], at: &mut usize) -> Option<Range<usize>> {
    while let Some(rest) = text.get(*at..) {
        let start = *at + rest.iter().position(|byte| is_base64(*byte))?;
        let end = run(text, start, is_base64);
        *at = end + text[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
        if is_likely_key(text, start..end) {
            return Some(start..*at);
        }
    }
    None
}

/// Overwrites such words in a message.
pub fn blank_likely_keys(text: &mut [u8]) {
    let mut at = 0;
    while let Some(word) = next(text, &mut at) {
        text[word].fill(b'*');
    }
}

/// Overwrites, in a copy of the outermost text, such words of a part of it, also those that show once escapes are read.
pub fn blank_in(view: &View<'_>, part: Range<usize>, dialect: Dialect, depth: usize, target: &mut [u8]) {
    for word in likely_keys(&view.bytes()[part.clone()]) {
        view.blank(part.start + word.start..part.start + word.end, target);
    }
    let mut lexer = Lexer::new(&view.bytes()[..part.end], dialect);
    lexer.at = part.start;
    for token in lexer {
        if let Kind::Quoted { quote, open, close } = token.kind
            && depth > 0
        {
            let quoted = view.quoted(quote, open, close);
            let whole = 0..quoted.bytes().len();
            blank_in(&quoted, whole, dialect.quoted(), depth - 1, target);
        }
    }
}

/// `word` is without its padding.
fn is_likely_key(text: &[u8], word: Range<usize>) -> bool {
    let is_named = is_part_of_name(text, &word);
    let has = |is: fn(&u8) -> bool| text[word.clone()].iter().any(is);
    let base64 = &text[word.clone()];
    // As PostgreSQL and programmers write it.
    let hex = [&b"0x"[..], b"0X", b"x", b"X"].iter().find_map(|prefix| base64.strip_prefix(*prefix));
    let hex = hex.unwrap_or(base64);
    if hex.iter().all(u8::is_ascii_hexdigit) && (hex.len() == HEX_LEN || hex.len() >= SHORTEST && !is_named) {
        return true;
    }
    // A key exactly, whatever it is joined to.
    let is_hex_key = |part: &[u8]| part.len() == HEX_LEN && part.iter().all(u8::is_ascii_hexdigit);
    if base64.split(|byte| *byte == b'/').any(is_hex_key)
        || base64.len() == BASE64_LEN && text.get(word.end) == Some(&b'=')
    {
        return true;
    }
    !is_named
        && (base64.len() == BASE64_LEN
            || base64.len() >= SHORTEST
                && base64[0] != b'/'
                && has(u8::is_ascii_lowercase)
                && has(u8::is_ascii_uppercase)
                && has(u8::is_ascii_digit))
}

/// Whether a word goes on beyond a sign of names.
fn is_part_of_name(text: &[u8], word: &Range<usize>) -> bool {
    let joins = |at: Option<usize>, next: Option<usize>| {
        let byte = |at: Option<usize>| at.and_then(|at| text.get(at)).copied();
        matches!(byte(at), Some(b'.' | b'_' | b'-')) && byte(next).is_some_and(is_base64)
    };
    joins(word.start.checked_sub(1), word.start.checked_sub(2)) || joins(Some(word.end), Some(word.end + 1))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn run(text: &[u8], start: usize, is_in: fn(u8) -> bool) -> usize {
    text[start..].iter().position(|byte| !is_in(*byte)).map_or(text.len(), |end| start + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn found(text: &str) -> Vec<&str> {
        likely_keys(text.as_bytes()).map(|word| &text[word]).collect()
    }

    #[test]
    fn finds_keys_and_what_is_left_of_them() {
        for key in [
            HEX,
            &HEX.to_uppercase(),
            &HEX[..62],
            &HEX[..32],
            &format!("{HEX}0"),
            &format!("x{HEX}"),
            BASE64,
            &BASE64[..43],
            "AAECAwQFBgcICQoLDA0ODw==",
            "/AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "averyverylongwordofsmalllettersthatmaybeone",
        ] {
            for text in [
                key.to_owned(),
                format!("'{key}'"),
                format!("key={key}."),
                format!("-{key}-, {key}...").replace(", ", ","),
                format!("({key})"),
            ] {
                assert!(found(&text).iter().all(|word| *word == key) && !found(&text).is_empty(), "{text}");
            }
        }
        assert_eq!(found(&format!("/srv/a-{HEX}.penc")), [HEX]);
        assert_eq!(found(&format!("keyid.{BASE64}")), [BASE64]);
        for path in [format!("vault/{HEX}"), format!("/vault/{HEX}/x")] {
            assert_eq!(found(&format!("'{path}'")), [path]);
        }
    }

    #[test]
    fn leaves_names_and_paths() {
        for text in [
            "/srv/Backups2026/ClientsArchive/NorthernRegion/Monthly",
            "/srv/Backups2026/ClientsArchiveOfTheNorthernRegi01.penc",
            "averylongnameofatablethatmaybeakey",
            "AVeryLongNameOfATableWithNoOtherSign",
            "customers20260101archive",
            "/srv/backup-d41d8cd98f00b204e9800998ecf8427e.penc",
            "d41d8cd98f00b204e9_d41d8cd98f00b204e9800998ecf8427e",
            "PL/pgSQL function prism_crypt.export_encrypted(text,text,text,integer,text,boolean) line 9 at assignment",
            "",
            "=",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
