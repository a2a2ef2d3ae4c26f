//! A file whose errors say which one it is, also when they have come through a compressor or a cipher.

use crate::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

/// Reads or writes an inner one.
pub struct NamedFile<F> {
    pub inner: F,
    path: PathBuf,
}

impl<F> NamedFile<F> {
    /// The inner one is that of the path.
    pub fn new(inner: F, path: impl Into<PathBuf>) -> Self {
        Self { inner, path: path.into() }
    }

    /// Whoever asked to read or write tries again after an interruption.
    fn failed(&self, action: &'static str, error: io::Error) -> io::Error {
        match error.kind() {
            ErrorKind::Interrupted => error,
            _ => io::Error::other(Error::file(action, &self.path, error)),
        }
    }
}

impl<F: Read> Read for NamedFile<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out).map_err(|error| self.failed("read", error))
    }
}

impl<F: Write> Write for NamedFile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).map_err(|error| self.failed("write", error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(|error| self.failed("write", error))
    }
}
