//! Dumps that are not plain text, through the machine's `pg_restore`.

use crate::error::{Error, Result};
use crate::keys::DEFAULT_VARIABLE;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A dump in custom, directory or tar form.
///
/// # Errors
/// [`Error::PgRestore`], and those of `read`.
pub fn read_path<T>(path: &Path, read: impl FnOnce(&mut dyn BufRead) -> Result<T>) -> Result<T> {
    let child = command().arg("--").arg(path).stdin(Stdio::null()).spawn().map_err(not_started)?;
    read_output(child, read)
}

/// One that comes through a pipe.
///
/// # Errors
/// [`Error::PgRestore`], and those of `read`.
pub fn read_stream<T>(
    mut from: impl Read + Send + 'static,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let mut child = command().stdin(Stdio::piped()).spawn().map_err(not_started)?;
    if let Some(mut into) = child.stdin.take() {
        // What can't be read is missing to pg_restore, which says so.
        thread::spawn(move || io::copy(&mut from, &mut into));
    }
    read_output(child, read)
}

fn command() -> Command {
    let mut command = Command::new("pg_restore");
    // It needs no key, so it gets none.
    command.env_remove(DEFAULT_VARIABLE).arg("--file=-").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn not_started(error: io::Error) -> Error {
    Error::PgRestore { detail: format!("It could not be started: {error}.") }
}

fn read_output<T>(mut child: Child, read: impl FnOnce(&mut dyn BufRead) -> Result<T>) -> Result<T> {
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    // Beside each other, or it would wait for us, and we for it.
    let said = thread::spawn(move || {
        let mut text = String::new();
        if let Some(errors) = errors {
            // What it says is for a detail only.
            let _ = errors.take(1 << 12).read_to_string(&mut text);
        }
        text
    });
    let found = match output {
        Some(output) => read(&mut BufReader::with_capacity(1 << 18, output)),
        None => Err(Error::NothingFound),
    };
    let status = child.wait().map_err(not_started)?;
    let said = said.join().unwrap_or_default();
    if status.success() || !matches!(found, Ok(_) | Err(Error::NothingFound)) {
        return found;
    }
    let first = said.lines().next().map_or_else(|| status.to_string(), str::to_owned);
    Err(Error::PgRestore { detail: first })
}
