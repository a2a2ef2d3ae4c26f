//! Encrypted files (PENC): what `docs/file-format.md` specifies, read and written as streams.
//!
//! ```text
//! version 1: "PENC" 0x01 | nonce, 12 | ciphertext | tag, 16
//! version 2: "PENC" 0x02 | length of the header, 4 | header, JSON | Cobblestone-256
//! ```
//!
//! Version 1 is one seal over the whole file, which has to fit in memory. Version 2 is a stream of chunks ([`cobblestone`]) whose context
//! is all that stands before it, so that nothing of a file can be exchanged, left out or put in another order. What an [`Opener`] gives
//! is authentic as far as it has come; only its end says that it was all.

pub mod cobblestone;
mod header;
mod whole;

pub use header::{Compression, Header, KeySource, MAX_HEADER_LEN};
pub use whole::MAX_WHOLE_LEN;

use crate::{KeyBytes, RandomnessError};
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// What every file begins with.
pub const MAGIC: [u8; 4] = *b"PENC";
const WHOLE: u8 = 0x01;
const CHUNKED: u8 = 0x02;

/// Why a file could not be read or written. Never holds any of its content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Another key, or changed bytes: deliberately one answer.
    #[error("Decryption failed (wrong key or corrupted data)")]
    Decryption,
    /// It ends too early.
    #[error("the file is truncated")]
    Truncated,
    /// It does not begin with [`MAGIC`].
    #[error("the file is not a PENC file")]
    Magic,
    /// A version that is not known here.
    #[error("PENC version {0} is not known")]
    Version(u8),
    /// The header is longer than [`MAX_HEADER_LEN`], or not what it has to be.
    #[error("the header of the file is malformed")]
    Header,
    /// More than a version can hold: [`MAX_WHOLE_LEN`] bytes, or 4 PiB.
    #[error("the content is too long for this version of the format")]
    Length,
    /// Version 1 has to be in memory as a whole.
    #[error("out of memory")]
    OutOfMemory,
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// What the operating system said.
    #[error(transparent)]
    Io(io::Error),
}

/// [`Read`] and [`Write`] carry errors of their own kind; this is in it.
impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io(error) => error,
            FileError::Truncated => Self::new(io::ErrorKind::UnexpectedEof, error),
            _ => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Finds what [`Read`] and [`Write`] have carried.
impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Io)
    }
}

/// The beginning of a file: which version it is, and how its key is had.
pub struct Opener<R> {
    inner: R,
    /// All that was read; the context of version 2.
    prefix: Vec<u8>,
    header: Option<Header>,
}

impl<R: Read> Opener<R> {
    /// Reads the beginning; it needs no key.
    ///
    /// # Errors
    /// [`FileError::Magic`], [`FileError::Version`], [`FileError::Header`], [`FileError::Truncated`], [`FileError::Io`].
    pub fn new(mut inner: R) -> Result<Self, FileError> {
        let mut start = [0; MAGIC.len() + 1];
        read_exact(&mut inner, &mut start)?;
        let (magic, version) = start.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(FileError::Magic);
        }
        let mut prefix = start.to_vec();
        let header = match version {
            [WHOLE] => None,
            [CHUNKED] => Some(Header::read(&mut inner, &mut prefix)?),
            _ => return Err(FileError::Version(version.first().copied().unwrap_or_default())),
        };
        Ok(Self { inner, prefix, header })
    }

    /// 1 or 2.
    #[must_use]
    pub fn version(&self) -> u8 {
        if self.header.is_some() { CHUNKED } else { WHOLE }
    }

    /// Version 1 has none.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The content, decrypted but not decompressed. Version 1 is read and checked as a whole here.
    ///
    /// # Errors
    /// [`FileError::Decryption`], [`FileError::Truncated`], [`FileError::Length`], [`FileError::Io`].
    pub fn content(mut self, key: &KeyBytes) -> Result<Content<R>, FileError> {
        Ok(Content(if self.header.is_some() {
            Inner::Chunks(cobblestone::Decryptor::new(self.inner, key, &self.prefix)?)
        } else {
            Inner::Whole(io::Cursor::new(whole::open(&mut self.inner, key)?))
        }))
    }
}

/// The content of a file. What it gives is authentic; that nothing is missing, it knows at the end.
pub struct Content<R>(Inner<R>);

enum Inner<R> {
    Whole(io::Cursor<Zeroizing<Vec<u8>>>),
    Chunks(cobblestone::Decryptor<R>),
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Whole(content) => {
                let position = usize::try_from(content.position()).unwrap_or(usize::MAX);
                let mut rest = content.get_ref().get(position..).unwrap_or_default();
                let read = rest.read(out)?;
                content.set_position(content.position() + read as u64);
                Ok(read)
            }
            Inner::Chunks(content) => content.read(out),
        }
    }
}

/// Begins a file of version 2. What is written has to be ended by [`cobblestone::Encryptor::finish`]: without it, the file is truncated.
///
/// # Errors
/// [`FileError::Header`] if it is too long, [`FileError::Randomness`], [`FileError::Io`].
pub fn create<W: Write>(
    mut out: W,
    header: &Header,
    key: &KeyBytes,
) -> Result<cobblestone::Encryptor<W>, FileError> {
    let mut prefix = MAGIC.to_vec();
    prefix.push(CHUNKED);
    header.write(&mut prefix)?;
    out.write_all(&prefix).map_err(FileError::Io)?;
    cobblestone::Encryptor::new(out, key, &prefix)
}

/// Writes a file of version 1. The content is encrypted in place.
///
/// # Errors
/// [`FileError::Length`], [`FileError::Randomness`], [`FileError::Io`].
pub fn write_whole<W: Write>(
    mut out: W,
    content: Zeroizing<Vec<u8>>,
    key: &KeyBytes,
) -> Result<W, FileError> {
    let mut start = MAGIC.to_vec();
    start.push(WHOLE);
    out.write_all(&start).map_err(FileError::Io)?;
    whole::write(&mut out, content, key)?;
    Ok(out)
}

/// As [`Read::read_exact`], with the end of the file as [`FileError::Truncated`].
fn read_exact(from: &mut impl Read, into: &mut [u8]) -> Result<(), FileError> {
    if fill(from, into)? < into.len() { Err(FileError::Truncated) } else { Ok(()) }
}

/// Reads until it is full, or the file ends. How much it is.
fn fill(from: &mut impl Read, into: &mut [u8]) -> Result<usize, FileError> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
