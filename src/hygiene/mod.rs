//! Keeps keys and plaintext out of what PostgreSQL shows and logs by itself.

mod log;
mod statement;

/// Installs the hooks.
pub fn init() {
    log::init();
    statement::init();
}

/// Whether a text names the setting that holds a key, whatever the quoting. Longer names that hold this one (the settings
/// that say where a key is, `rotate_master_key`) don't count.
pub fn names_master_key(text: &[u8]) -> bool {
    const NAME: &[u8] = b"master_key";
    let in_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.windows(NAME.len()).enumerate().any(|(at, window)| {
        window.eq_ignore_ascii_case(NAME)
            && !in_name(at.checked_sub(1).and_then(|before| text.get(before)))
            && !in_name(text.get(at + NAME.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::names_master_key;

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
        for text in
            ["SET prism_crypt.master_key_file = '/x'", "SELECT prism_crypt.rotate_master_key()", "master", ""]
        {
            assert!(!names_master_key(text.as_bytes()), "{text}");
        }
    }
}
