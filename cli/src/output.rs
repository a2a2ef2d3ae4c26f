//! Standard output.

use crate::error::{Error, Result};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// A buffered one. Flush it with [`flush`].
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Writes.
///
/// # Errors
/// [`Error::Output`].
pub fn write(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(Error::Output)
}

/// Flushes.
///
/// # Errors
/// [`Error::Output`].
pub fn flush(out: &mut impl Write) -> Result<()> {
    out.flush().map_err(Error::Output)
}

/// A name or message of others, without control characters: a terminal would obey them.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, sign| {
        if sign.is_control() {
            shown.extend(sign.escape_default())
        } else {
            shown.push(sign)
        }
        shown
    })
}

/// Prints a text.
///
/// # Errors
/// [`Error::Output`].
pub fn print(text: &str) -> Result<()> {
    let mut out = stdout();
    write(&mut out, text.as_bytes())?;
    flush(&mut out)
}

/// Prints a value as JSON, for people to read too.
///
/// # Errors
/// [`Error::Output`].
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Output(error.into()))?;
    print(&(text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn no_control_character_is_left() {
        assert_eq!(printable("a \"é\"\x1b[31m\n\u{9b}"), "a \"é\"\\u{1b}[31m\\n\\u{9b}");
    }
}
