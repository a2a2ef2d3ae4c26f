//! Writes fields.

use std::sync::LazyLock;

/// Knows what has to be in quotes.
static RULES: LazyLock<csv_core::Writer> = LazyLock::new(csv_core::Writer::new);

/// Appends a field to a line.
pub fn push_field(line: &mut Vec<u8>, is_first: bool, field: Option<&[u8]>) {
    if !is_first {
        line.push(b',');
    }
    let Some(field) = field else { return };
    // What PostgreSQL takes for the end of the data is in quotes too.
    if !field.is_empty() && field != b"\\." && !RULES.should_quote(field) {
        return line.extend_from_slice(field);
    }
    line.push(b'"');
    let start = line.len();
    line.resize(start + 2 * field.len(), 0);
    let (_, _, written) = csv_core::quote(field, line.get_mut(start..).unwrap_or_default(), b'"', b'"', true);
    line.truncate(start + written);
    line.push(b'"');
}
