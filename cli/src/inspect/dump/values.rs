//! Finds encrypted values in a line.

use super::super::value::{key_version, key_version_of_bytes};
use super::rows::{Form, Row};
use crate::copy_text::fields;
use memchr::memmem;

const TEXT_FORM: &[u8] = b"prism:v";
/// A `bytea` in hexadecimal digits, whose first byte is that of the format.
const BYTES: &[u8] = b"\\x01";

/// Each value's number of field, if it is known, and key version; `None` for what only begins like one.
pub fn of_row(row: &Row<'_>) -> Vec<(Option<usize>, Option<u32>)> {
    // Most lines have none.
    if memmem::find(row.text, TEXT_FORM).is_none() && memmem::find(row.text, BYTES).is_none() {
        return Vec::new();
    }
    match row.form {
        Form::Copy => fields(row.text)
            .enumerate()
            .flat_map(|(number, field)| versions(field).into_iter().map(move |it| (Some(number), it)))
            .collect(),
        Form::Insert | Form::Other => versions(row.text).into_iter().map(|it| (None, it)).collect(),
    }
}

fn versions(text: &[u8]) -> Vec<Option<u32>> {
    let text_forms = memmem::find_iter(text, TEXT_FORM).filter_map(|at| {
        let found = text.get(at..)?;
        let digits = found.get(TEXT_FORM.len()..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let body = TEXT_FORM.len() + digits + 1;
        // Otherwise it does not claim to be one.
        if digits == 0 || found.get(body - 1) != Some(&b':') {
            return None;
        }
        let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let length = found.get(body..)?.iter().take_while(is_base64).count();
        Some(found.get(..body + length).and_then(key_version))
    });
    // Bytes of others may look like one, so those that are none say nothing.
    let bytes = memmem::find_iter(text, BYTES).filter_map(|at| {
        let digits = text.get(at + 2..)?;
        let length = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let bytes = hex::decode(digits.get(..length)?).ok()?;
        key_version_of_bytes(&bytes).map(|version| Some(version.get()))
    });
    text_forms.chain(bytes).collect()
}
