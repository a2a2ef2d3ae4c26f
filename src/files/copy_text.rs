//! Rows in the text format of `COPY` (PostgreSQL's manual, COPY, "Text Format"), with a tab between fields and `\N` for null.

use std::collections::TryReserveError;

/// Appends a field to a row.
///
/// # Errors
/// There is not enough memory.
pub fn push_field(row: &mut Vec<u8>, is_first: bool, field: Option<&[u8]>) -> Result<(), TryReserveError> {
    row.try_reserve(3)?;
    if !is_first {
        row.push(b'\t');
    }
    let Some(field) = field else {
        row.extend_from_slice(b"\\N");
        return Ok(());
    };
    // With room for what is after it.
    row.try_reserve(field.len() + 1)?;
    // Most have nothing to escape. Without an early end, the compiler looks at many bytes at once.
    if !field.iter().fold(false, |found, byte| found | (*byte < 14) | (*byte == b'\\')) {
        row.extend_from_slice(field);
        return Ok(());
    }
    let mut rest = field;
    while let Some(at) =
        rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r' | 8 | 11 | 12))
    {
        let (plain, special) = rest.split_at(at);
        row.extend_from_slice(plain);
        let Some((special, after)) = special.split_first() else { break };
        row.try_reserve(after.len() + 3)?;
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
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::push_field;

    #[test]
    fn what_has_a_meaning_is_escaped() {
        let mut row = Vec::new();
        push_field(&mut row, true, Some(b"a\tb\\N\n")).unwrap();
        push_field(&mut row, false, None).unwrap();
        push_field(&mut row, false, Some(b"")).unwrap();
        push_field(&mut row, false, Some("ő\r\x08\x0b\x0c".as_bytes())).unwrap();
        assert_eq!(row, "a\\tb\\\\N\\n\t\\N\t\tő\\r\\b\\v\\f".as_bytes());
    }
}
