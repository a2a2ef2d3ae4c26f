//! The content of a new file of version 2: perhaps compressed, then encrypted.

use super::CONTENT_TYPE;
use crate::datum::Text;
use crate::error::Error;
use prism_envelope::KeyBytes;
use prism_envelope::file::cobblestone::Encryptor;
use prism_envelope::file::{Compression, FileError, Header, KeySource, create};
use std::io::{self, Write};

/// What is written to it. It has to be [`finish`](Self::finish)ed.
pub enum Content<W: Write> {
    Plain(Encryptor<W>),
    Compressed(Box<zstd::Encoder<'static, Encryptor<W>>>),
}

impl<W: Write> Content<W> {
    /// Writes the header.
    pub fn begin(out: W, key: &KeyBytes, source: KeySource, compression: Compression) -> Result<Self, Error> {
        let header = Header { key: source, content_type: CONTENT_TYPE.to_owned(), compression };
        let encryptor = create(out, &header, key)?;
        Ok(match compression {
            Compression::None => Self::Plain(encryptor),
            Compression::Zstd => {
                Self::Compressed(Box::new(zstd::Encoder::new(encryptor, 0).map_err(FileError::from)?))
            }
        })
    }

    /// Writes the end.
    pub fn finish(self) -> Result<W, Error> {
        let encryptor = match self {
            Self::Plain(encryptor) => encryptor,
            Self::Compressed(encoder) => encoder.finish().map_err(FileError::from)?,
        };
        Ok(encryptor.finish()?)
    }
}

impl<W: Write> Write for Content<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(encryptor) => encryptor.write(bytes),
            Self::Compressed(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of a compression.
pub fn compression_named(name: Text<'_>) -> Result<Compression, Error> {
    match name.0.bytes() {
        b"none" => Ok(Compression::None),
        b"zstd" => Ok(Compression::Zstd),
        _ => Err(Error::OneOf("compression", "none or zstd")),
    }
}
