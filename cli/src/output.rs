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
