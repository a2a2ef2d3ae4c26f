//! The content of a new file: perhaps compressed, then encrypted.

use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::new_file::NewFile;
use crate::penc::TABLE;
use prism_envelope::file::cobblestone::Encryptor;
use prism_envelope::file::{Compression, FileError, Header, KeySource, MAX_WHOLE_LEN, create, write_whole};
use prism_envelope::{KeyBytes, KeyIdentity, NonceOwner, NoncePool};
use std::io::{self, BufWriter, Write};
use zeroize::Zeroizing;

type File = BufWriter<NewFile>;

/// What is written to it. It has to be [`finish`](Self::finish)ed.
pub enum Content<'a> {
    Plain(Encryptor<File>),
    Compressed(Box<zstd::Encoder<'static, Encryptor<File>>>),
    /// Version 1 is one seal, so all of it is held in memory.
    Whole {
        content: Zeroizing<Vec<u8>>,
        file: File,
        key: &'a KeyBytes,
    },
}

impl<'a> Content<'a> {
    /// Writes the header. With `wrap`, the file has a key of its own, which the first of the keys wraps.
    ///
    /// # Errors
    /// [`Error::SeveralKeys`], [`Error::Randomness`], [`Error::Penc`].
    pub fn begin(
        file: NewFile,
        keys: &'a Keys,
        wrap: bool,
        format: u8,
        compression: Compression,
    ) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 18, file);
        if format == 1 {
            return Ok(Self::Whole { content: Zeroizing::default(), file, key: keys.single()? });
        }
        let encryptor = match keys.master_keys().first().filter(|_| wrap) {
            Some(master) => {
                let key = KeyBytes::generate()?;
                let owner = NonceOwner { process_id: std::process::id(), transaction: 1 };
                let wrapped = master.wrap(&mut NoncePool::new(), owner, KeyIdentity::File, &key)?;
                let source = KeySource::wrapped(master.fingerprint().to_string(), &wrapped);
                create(file, &header(source, compression), &key)?
            }
            None => create(file, &header(KeySource::Given {}, compression), keys.single()?)?,
        };
        Ok(match compression {
            Compression::None => Self::Plain(encryptor),
            Compression::Zstd => {
                Self::Compressed(Box::new(zstd::Encoder::new(encryptor, 0).map_err(Error::content)?))
            }
        })
    }

    /// Writes the end.
    ///
    /// # Errors
    /// [`Error::Penc`].
    pub fn finish(self) -> Result<NewFile> {
        let file = match self {
            Self::Plain(encryptor) => encryptor.finish()?,
            Self::Compressed(encoder) => encoder.finish().map_err(Error::content)?.finish()?,
            Self::Whole { content, file, key } => write_whole(file, content, key)?,
        };
        file.into_inner().map_err(|error| Error::content(error.into_error()))
    }
}

fn header(key: KeySource, compression: Compression) -> Header {
    Header { key, content_type: TABLE.to_owned(), compression }
}

impl Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(encryptor) => encryptor.write(bytes),
            Self::Compressed(encoder) => encoder.write(bytes),
            Self::Whole { content, .. } => push(content, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Memory that is wiped when it grows, and has a limit.
fn push(content: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) -> io::Result<usize> {
    let len = content.len() + bytes.len();
    if len > MAX_WHOLE_LEN {
        return Err(FileError::Length.into());
    }
    if len > content.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity((2 * len).clamp(1 << 16, MAX_WHOLE_LEN)));
        larger.extend_from_slice(content);
        *content = larger;
    }
    content.extend_from_slice(bytes);
    Ok(bytes.len())
}
