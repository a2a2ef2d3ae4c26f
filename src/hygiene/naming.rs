//! Whether a text names the setting that holds a key: `prism_crypt.master_key`, in any quoting, or put together from its
//! two parts. Other names with these words in them (a customer's own column `master_key`, the settings that say where a key
//! is) don't count.

use memchr::{memchr, memchr_iter, memchr3_iter};
use std::ops::Range;

const SCHEMA: &[u8] = b"prism_crypt";
const NAME: &[u8] = b"master_key";
/// Where each of them has its underscore.
const UNDERSCORE: usize = 5;
/// What a blanked text still names.
pub const SETTING: &[u8] = b"prism_crypt.master_key";

/// Where a text names the setting. One pass, and cheap where there are no such words: statements may be very long.
pub fn find(text: &[u8]) -> Option<Range<usize>> {
    let escapes = Escapes::of(text);
    let named = |start: usize| named_at(text, start, escapes);
    match escapes {
        Escapes::None => memchr_iter(b'_', text).filter_map(|at| at.checked_sub(UNDERSCORE)).find_map(named),
        Escapes::Backslash => memchr3_iter(b'p', b'P', b'\\', text).find_map(named),
        Escapes::Any => (0..text.len()).find_map(named),
    }
}

/// Which byte begins an escape: of `E'…'` and `U&'…'` a backslash, of `UESCAPE` nearly any.
#[derive(Clone, Copy)]
enum Escapes {
    None,
    Backslash,
    Any,
}

impl Escapes {
    fn of(text: &[u8]) -> Self {
        let is_uescape =
            |at: usize| text.get(at..at + 7).is_some_and(|word| word.eq_ignore_ascii_case(b"uescape"));
        // Without `U&` there is no UESCAPE.
        if memchr_iter(b'&', text).any(|at| at > 0 && text[at - 1].eq_ignore_ascii_case(&b'u'))
            && (0..text.len()).any(is_uescape)
        {
            Self::Any
        } else if memchr(b'\\', text).is_some() {
            Self::Backslash
        } else {
            Self::None
        }
    }

    fn has(self, byte: u8) -> bool {
        match self {
            Self::None => false,
            Self::Backslash => byte == b'\\',
            Self::Any => !byte.is_ascii_hexdigit() && !byte.is_ascii_whitespace(),
        }
    }
}

fn named_at(text: &[u8], start: usize, escapes: Escapes) -> Option<Range<usize>> {
    let starts_word = start == 0 || !in_name(text.get(start - 1));
    if !starts_word {
        return None;
    }
    let schema_end = word(text, start, SCHEMA, escapes)?;
    let end = word(text, glue(text, schema_end, escapes), NAME, escapes)?;
    (!in_name(text.get(end))).then_some(start..end)
}

fn in_name(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Where the word that begins at `start` ends, if it is that one, maybe with escapes.
fn word(text: &[u8], start: usize, expected: &[u8], escapes: Escapes) -> Option<usize> {
    let Some((first, rest)) = expected.split_first() else { return Some(start) };
    // An escape may be read in two ways, of which hardly ever both give the expected character.
    character(text, start, *first, escapes)
        .into_iter()
        .flatten()
        .find_map(|next| word(text, next, rest, escapes))
}

/// Where the character that begins at `at` ends, in every way in which it is the expected one.
fn character(text: &[u8], at: usize, expected: u8, escapes: Escapes) -> [Option<usize>; 3] {
    let Some(byte) = text.get(at) else { return [None; 3] };
    let plain = byte.eq_ignore_ascii_case(&expected).then_some(at + 1);
    if !escapes.has(*byte) {
        return [plain, None, None];
    }
    let number = |skip: usize, digits: usize, radix: u32| {
        let start = at + 1 + skip;
        let digits = std::str::from_utf8(text.get(start..start + digits)?).ok()?;
        let is_expected = u32::from_str_radix(digits, radix)
            .is_ok_and(|code| u8::try_from(code).is_ok_and(|code| code.eq_ignore_ascii_case(&expected)));
        is_expected.then_some(start + digits.len())
    };
    match text.get(at + 1) {
        Some(b'+') => [plain, number(1, 6, 16), None],
        Some(b'x') => [plain, number(1, 2, 16), None],
        Some(b'u') => [plain, number(1, 4, 16), None],
        Some(b'U') => [plain, number(1, 8, 16), None],
        _ => [plain, number(0, 4, 16), number(0, 3, 8)],
    }
}

/// Where the second part of the name may begin: what can stand between the two is skipped, that is white space, comments,
/// quotes, and what puts strings together.
fn glue(text: &[u8], start: usize, escapes: Escapes) -> usize {
    let mut at = start;
    loop {
        at = match &text[at..] {
            [b'/', b'*', ..] => comment_end(text, at),
            [b'-', b'-', ..] => memchr(b'\n', &text[at..]).map_or(text.len(), |end| at + end),
            [b'u' | b'U', b'&', b'"' | b'\'', ..] => at + 2,
            [b'e' | b'E', b'\'', ..] => at + 1,
            // UESCAPE '!'
            rest if rest.get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"uescape")) => {
                memchr(b'\'', rest).map_or(text.len(), |quote| text.len().min(at + quote + 3))
            }
            [byte, ..] if byte.is_ascii_whitespace() || b"\"'.,|()".contains(byte) => at + 1,
            _ => match character(text, at, b'.', escapes).into_iter().flatten().next() {
                Some(next) => next,
                None => return at,
            },
        };
    }
}

/// Comments nest.
fn comment_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_setting_in_any_spelling() {
        for text in [
            "SET prism_crypt.master_key = 'x'",
            "set PRISM_CRYPT.MASTER_KEY to 'x'",
            "set \"prism_crypt\".\"master_key\" to 'x'",
            "set \"prism_crypt.master_key\" to 'x'",
            "set prism_crypt . /* a /* nested */ one */ master_key -- x",
            "set prism_crypt. -- x\n master_key = 'x'",
            "select set_config('prism_crypt.master_key', $1, false)",
            "select set_config('prism_crypt' || '.' || 'master_key', $1, false)",
            "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'prism_crypt', 'master_key', 'x'); END $$",
            "SET U&\"prism_crypt\".U&\"\\006daster_key\" = 'x'",
            "SET U&\"\\0070rism\\005fcrypt\\002emaster\\+00005fkey\" = 'x'",
            "SET U&\"prism_crypt\" UESCAPE '!' . U&\"!006daster_key\" UESCAPE '!' = 'x'",
            "SET prism_crypt.U&\"z006daster_key\" UESCAPE 'z' = 'x'",
            "select set_config(E'prism_crypt.master\\x5fkey', 'x', false)",
            "select set_config(E'\\160rism_crypt.\\u006Daster\\U0000005fkey', 'x', false)",
            "select E'\\n', set_config('prism_crypt.master_key', 'x', false)",
        ] {
            assert!(find(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn leaves_other_names_alone() {
        for text in [
            "SET prism_crypt.master_key_file = '/x'",
            "SELECT rotate_master_key()",
            "SELECT prism_crypt.rotate_master_key()",
            "CREATE TABLE vault(master_key text)",
            "CREATE TABLE prism_crypt_vault(id int, master_key text)",
            "INSERT INTO vault(master_key) VALUES ('x') -- E'\\n'",
            "SELECT prism_crypt.status() /* master_key */",
            "SET my_prism_crypt.master_key = 'x'",
            "prism_crypt /* master_key",
            "prism_crypt.",
            "\\",
            "master",
            "",
        ] {
            assert!(find(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn tells_where_it_stands() {
        assert_eq!(find(b"SET prism_crypt.master_key = 'x'"), Some(4..26));
        assert_eq!(find(b"SET prism_crypt.\"master_key\" = 'x'"), Some(4..27));
    }
}
