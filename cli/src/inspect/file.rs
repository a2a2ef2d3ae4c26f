//! An encrypted file.

use crate::error::{Error, Result};
use crate::output::printable;
use prism_envelope::file::cobblestone::{CHUNK_LEN, PREFIX_LEN};
use prism_envelope::file::{Compression, FileError, KeySource, Opener};
use prism_envelope::{NONCE_LEN, TAG_LEN};
use serde::Serialize;
use std::fmt;
use std::io::{self, Read};

/// What anybody can read of a file. Nothing of it is authentic before the file was opened.
#[derive(Debug, Serialize)]
pub struct File {
    pub version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    pub bytes: u64,
    /// Compressed, if it is.
    pub content_bytes: u64,
    pub chunks: u64,
}

impl File {
    /// Reads all of it, for its length.
    ///
    /// # Errors
    /// [`Error::Penc`].
    pub fn read(from: impl Read) -> Result<Self> {
        let mut counted = Counted { inner: from, bytes: 0 };
        let opener = Opener::new(&mut counted)?;
        let version = opener.version();
        let header = opener.header().cloned();
        let start = counted.bytes;
        io::copy(&mut counted, &mut io::sink()).map_err(Error::content)?;
        let (content_bytes, chunks) = match version {
            1 => whole(counted.bytes - start),
            _ => chunked(counted.bytes - start),
        }
        .ok_or(FileError::Truncated)?;
        let (key_source, master_fingerprint) = match header.as_ref().map(|header| header.key.clone()) {
            Some(KeySource::Wrapped { master_fingerprint, .. }) => {
                (Some("wrapped"), Some(master_fingerprint))
            }
            Some(KeySource::Given {}) => (Some("given"), None),
            None => (None, None),
        };
        Ok(Self {
            version,
            key_source,
            master_fingerprint,
            content_type: header.as_ref().map(|header| header.content_type.clone()),
            compression: header.map(|header| header.compression),
            bytes: counted.bytes,
            content_bytes,
            chunks,
        })
    }
}

/// Lengths of what stands after the version: content and chunks. `None` if it is too short.
fn whole(length: u64) -> Option<(u64, u64)> {
    Some((length.checked_sub((NONCE_LEN + TAG_LEN) as u64)?, 1))
}

/// Of what stands after the header. The last chunk is not a full one.
fn chunked(length: u64) -> Option<(u64, u64)> {
    let (chunk, tag) = ((CHUNK_LEN + TAG_LEN) as u64, TAG_LEN as u64);
    let length = length.checked_sub(PREFIX_LEN as u64)?;
    let last = (length % chunk).checked_sub(tag)?;
    Some((length / chunk * CHUNK_LEN as u64 + last, length / chunk + 1))
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "encrypted file, PENC version {}", self.version)?;
        match (&self.master_fingerprint, self.key_source) {
            // A header is what anybody may have written: no control characters to the terminal.
            (Some(fingerprint), _) => {
                writeln!(f, "key:         wrapped by the master key {}", printable(fingerprint))?;
            }
            (None, Some(_)) => writeln!(f, "key:         given by whoever opens it")?,
            (None, None) => writeln!(f, "key:         given by whoever opens it; there is no header")?,
        }
        if let Some(content_type) = &self.content_type {
            writeln!(f, "content:     {}", printable(content_type))?;
        }
        match self.compression {
            Some(Compression::Zstd) => writeln!(f, "compression: zstd")?,
            Some(Compression::None) => writeln!(f, "compression: none")?,
            None => {}
        }
        writeln!(f, "size:        {} bytes, {} of them content", self.bytes, self.content_bytes)?;
        writeln!(f, "chunks:      {}", self.chunks)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::File;
    use prism_envelope::KeyBytes;
    use prism_envelope::file::cobblestone::CHUNK_LEN;
    use prism_envelope::file::{Compression, Header, KeySource, create, write_whole};
    use std::io::Write;
    use zeroize::Zeroizing;

    #[test]
    fn lengths_are_those_of_the_content() {
        let key = KeyBytes::generate().unwrap();
        for length in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN] {
            let header = Header {
                key: KeySource::wrapped("00ff".to_owned(), &[1]),
                content_type: "text/plain".to_owned(),
                compression: Compression::None,
            };
            let mut encryptor = create(Vec::new(), &header, &key).unwrap();
            encryptor.write_all(&vec![7; length]).unwrap();
            let bytes = encryptor.finish().unwrap();
            let file = File::read(bytes.as_slice()).unwrap();
            assert_eq!(
                (file.version, file.bytes, file.content_bytes),
                (2, bytes.len() as u64, length as u64)
            );
            assert_eq!(file.chunks, length as u64 / CHUNK_LEN as u64 + 1);
            assert_eq!(file.master_fingerprint.as_deref(), Some("00ff"));
            assert!(File::read(&bytes[..bytes.len() - 16 - length % CHUNK_LEN]).is_err());

            let bytes = write_whole(Vec::new(), Zeroizing::new(vec![7; length]), &key).unwrap();
            let file = File::read(bytes.as_slice()).unwrap();
            assert_eq!((file.version, file.content_bytes, file.key_source), (1, length as u64, None));
        }
    }
}
