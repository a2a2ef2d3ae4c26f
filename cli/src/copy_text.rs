//! Rows in the text format of `COPY` (PostgreSQL's manual, COPY, "Text Format"): tabs between fields, `\N` for null, backslashes.

use std::borrow::Cow;

/// Appends a field to a row.
pub fn push_field(row: &mut Vec<u8>, is_first: bool, field: Option<&[u8]>) {
    if !is_first {
        row.push(b'\t');
    }
    let Some(field) = field else { return row.extend_from_slice(b"\\N") };
    for byte in field {
        let letter = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            11 => b'v',
            12 => b'f',
            _ => {
                row.push(*byte);
                continue;
            }
        };
        row.extend_from_slice(&[b'\\', letter]);
    }
}

/// The fields of a row, which is without its newline, as they stand there.
pub fn fields(row: &[u8]) -> impl Iterator<Item = &[u8]> {
    row.split(|byte| *byte == b'\t')
}

/// What a field means; `None` is null.
pub fn decode(field: &[u8]) -> Option<Cow<'_, [u8]>> {
    if field == b"\\N" {
        return None;
    }
    if !field.contains(&b'\\') {
        return Some(Cow::Borrowed(field));
    }
    let mut decoded = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            decoded.push(*byte);
            continue;
        }
        // A backslash at the end stands for itself, as PostgreSQL has it.
        let Some((letter, after)) = rest.split_first() else {
            decoded.push(b'\\');
            break;
        };
        rest = after;
        decoded.push(match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => number(letter - b'0', &mut rest, 8, 2),
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => number(0, &mut rest, 16, 2),
            other => *other,
        });
    }
    Some(Cow::Owned(decoded))
}

/// A byte by its number, of which `most` digits may follow.
fn number(first: u8, rest: &mut &[u8], radix: u8, most: usize) -> u8 {
    let mut value = u32::from(first);
    for _ in 0..most {
        let Some((digit, after)) = rest
            .split_first()
            .and_then(|(byte, after)| Some((char::from(*byte).to_digit(radix.into())?, after)))
        else {
            break;
        };
        (value, *rest) = (value * u32::from(radix) + digit, after);
    }
    // "only the lower 8 bits": \400 to \777 are no bytes.
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::{decode, fields, push_field};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back(row in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), 1..8)) {
            let mut text = Vec::new();
            for (number, field) in row.iter().enumerate() {
                push_field(&mut text, number == 0, field.as_deref());
            }
            prop_assert!(!text.contains(&b'\n'));
            let back: Vec<_> = fields(&text).map(|field| decode(field).map(std::borrow::Cow::into_owned)).collect();
            prop_assert_eq!(back, row);
        }
    }

    #[test]
    fn what_others_write_is_understood() {
        for (field, meant) in [
            (r"\N", None),
            (r"a\tb\\N\n", Some(&b"a\tb\\N\n"[..])),
            (r"\101\x41\x4a1\7z", Some(b"AAJ1\x07z")),
            (r"\q\xz\", Some(b"qxz\\")),
            ("", Some(b"")),
        ] {
            assert_eq!(decode(field.as_bytes()).as_deref(), meant, "{field}");
        }
    }
}
