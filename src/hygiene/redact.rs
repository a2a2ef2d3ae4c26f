//! What is secret in a text, and how it is taken out in place.

const NAME: &[u8] = b"master_key";
const WITHHELD: &[u8] = b"withheld by prism_crypt";
const ASTERISKS: &[u8] = b"***";
/// The shortest text of a key is 43 characters of base64. What is this long may be most of one.
const LONG_WORD: usize = 20;
/// SQLSTATEs in the packing of `MAKE_SQLSTATE`: six bits a character, the first one lowest.
const INTEGRITY_CONSTRAINT_VIOLATION: i32 = sqlstate(*b"23000");
const WITH_CHECK_OPTION_VIOLATION: i32 = sqlstate(*b"44000");
const CLASS: i32 = 0xfff;

const fn sqlstate(code: [u8; 5]) -> i32 {
    let (mut packed, mut at) = (0, 0);
    while at < 5 {
        packed |= (code[at].wrapping_sub(b'0') as i32 & 0x3f) << (6 * at);
        at += 1;
    }
    packed
}

/// Whether PostgreSQL describes a row in the detail of errors of this SQLSTATE.
pub fn is_about_a_row(sqlerrcode: i32) -> bool {
    sqlerrcode & CLASS == INTEGRITY_CONSTRAINT_VIOLATION & CLASS || sqlerrcode == WITH_CHECK_OPTION_VIOLATION
}

/// Whether a text names the setting that holds a key, whatever the quoting. Longer names that hold this one (the settings
/// that say where a key is, `rotate_master_key`) don't count.
pub fn names_master_key(text: &[u8]) -> bool {
    find_master_key(text).is_some()
}

/// Whether a text holds one of the keys in a setting's value.
pub fn holds_key(text: &[u8], keys: &[u8]) -> bool {
    keys.split(|byte| byte.is_ascii_whitespace() || *byte == b',')
        .any(|key| key.len() >= LONG_WORD && contains(text, key))
}

/// The statement without its literals, at the same length: blank from its first quote, or from the setting's name, on. It
/// still names the setting, so that what quotes it later (the detail of an EXECUTE) is known for what it is.
pub fn blank_literals(text: &[u8]) -> Vec<u8> {
    let quote = text.iter().position(|byte| matches!(byte, b'\'' | b'"' | b'$'));
    let start = [quote, find_master_key(text)].into_iter().flatten().min().unwrap_or(text.len());
    let mut blanked = text.to_vec();
    let rest = &mut blanked[start..];
    rest.fill(b'*');
    if let Some(name) = rest.get_mut(1..=NAME.len()) {
        name.copy_from_slice(NAME);
    }
    blanked
}

pub fn contains(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

/// Where the input begins in the context of a COPY. Every language of PostgreSQL has a colon there; a binary COPY shows
/// no input and has none.
pub fn input_in_copy_context(context: &[u8]) -> Option<usize> {
    after_colon_and_quote(context).or_else(|| context.iter().position(|byte| *byte == b':').map(|at| at + 1))
}

/// Where `: "…` begins to quote.
pub fn after_colon_and_quote(text: &[u8]) -> Option<usize> {
    find(text, b": \"").map(|at| at + 2)
}

/// Overwrites a whole text.
pub fn overwrite(text: &mut [u8]) {
    cut(text, |_| Some(0));
}

/// Overwrites a text from the first `part` on.
pub fn cut_from(text: &mut [u8], part: &[u8]) {
    cut(text, |text| find(text, part));
}

/// Overwrites a text from where `start` says, if it says so. Zero bytes fill it up.
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

/// Where the setting's name ends.
fn find_master_key(text: &[u8]) -> Option<usize> {
    let in_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_name = |at: usize| {
        text.get(at..at + NAME.len()).is_some_and(|word| word.eq_ignore_ascii_case(NAME))
            && !in_name(at.checked_sub(1).and_then(|before| text.get(before)))
            && !in_name(text.get(at + NAME.len()))
    };
    // The first letter first: statements may be very long.
    let mut starts = text.iter().enumerate().filter(|(_, byte)| byte.eq_ignore_ascii_case(&NAME[0]));
    starts.find(|(at, _)| is_name(*at)).map(|(at, _)| at + NAME.len())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
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
    fn finds_the_setting_in_any_spelling() {
        for text in [
            "SET prism_crypt.master_key = 'x'",
            "set PRISM_CRYPT.MASTER_KEY to 'x'",
            "set \"prism_crypt\".\"master_key\" to 'x'",
            "select set_config('prism_crypt.master_key', $1, false)",
        ] {
            assert!(names_master_key(text.as_bytes()), "{text}");
        }
        for text in ["SET prism_crypt.master_key_file = '/x'", "SELECT rotate_master_key()", "master", ""] {
            assert!(!names_master_key(text.as_bytes()), "{text}");
        }
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
            ("SET \"prism_crypt\".master_key TO x", "SET *master_key******************"),
            ("DO $$ master_key $$", "DO *master_key*****"),
            ("SHOW x", "SHOW x"),
        ] {
            assert_eq!(blank_literals(text.as_bytes()).escape_ascii().to_string(), blanked, "{text}");
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
        let copy = |text: &mut [u8]| cut(text, input_in_copy_context);
        assert_eq!(changed("COPY t, line 1, column a: \"secret\"", copy), "COPY t, line 1, column a: ***");
        assert_eq!(
            changed("COPY t, ligne 1, colonne a : « secret »", copy),
            "COPY t, ligne 1, colonne a :***"
        );
        assert_eq!(changed("COPY t, line 1, column a", copy), "COPY t, line 1, column a");
    }

    #[test]
    fn knows_errors_that_describe_a_row() {
        // not_null_violation, unique_violation, with_check_option_violation; and syntax_error
        for (code, expected) in [(*b"23502", true), (*b"23505", true), (*b"44000", true), (*b"42601", false)]
        {
            assert_eq!(is_about_a_row(sqlstate(code)), expected);
        }
    }
}
