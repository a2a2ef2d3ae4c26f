//! Rows in the text format of `COPY` (PostgreSQL's manual, COPY, "Text Format"), with a tab between fields and `\N` for null.

/// Appends a field to a row.
pub fn push_field(row: &mut Vec<u8>, is_first: bool, field: Option<&[u8]>) {
    if !is_first {
        row.push(b'\t');
    }
    let Some(field) = field else { return row.extend_from_slice(b"\\N") };
    let mut rest = field;
    while let Some(at) =
        rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r' | 8 | 11 | 12))
    {
        let (plain, special) = rest.split_at(at);
        row.extend_from_slice(plain);
        let Some((special, after)) = special.split_first() else { break };
        row.push(b'\\');
        row.push(match special {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            11 => b'v',
            12 => b'f',
            _ => b'\\',
        });
        rest = after;
    }
    row.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::push_field;

    #[test]
    fn what_has_a_meaning_is_escaped() {
        let mut row = Vec::new();
        push_field(&mut row, true, Some(b"a\tb\\N\n"));
        push_field(&mut row, false, None);
        push_field(&mut row, false, Some(b""));
        push_field(&mut row, false, Some("ő\r\x08\x0b\x0c".as_bytes()));
        assert_eq!(row, "a\\tb\\\\N\\n\t\\N\t\tő\\r\\b\\v\\f".as_bytes());
    }
}
