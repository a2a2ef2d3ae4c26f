//! `bytea` as text: hexadecimal, or in the older form with octal escapes.

/// The bytes of such a text; `None` if it is none.
pub fn read(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        return hex::decode(digits).ok();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                after
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                after
            }
            (b'\\', _) => return None,
            _ => {
                out.push(*first);
                after
            }
        };
    }
    Some(out)
}

/// The hexadecimal form of bytes.
pub fn write(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\\x".to_vec();
    out.extend(hex::encode(bytes).into_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms() {
        assert_eq!(read(b"\\x0104fF"), Some(vec![1, 4, 255]));
        assert_eq!(read(b"a\\001\\\\\\377"), Some(b"a\x01\\\xff".to_vec()));
        for text in [&b"\\x0"[..], b"\\9", b"\\00", b"\\400", b"\\"] {
            assert_eq!(read(text), None);
        }
    }

    proptest! {
        #[test]
        fn there_and_back(bytes: Vec<u8>) {
            prop_assert_eq!(read(&write(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _ = read(&text);
        }
    }
}
