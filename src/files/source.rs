//! Opens a file, or the pieces of one, and reads its content.

use super::CONTENT_TYPE;
use super::chunks::Chunks;
use super::definition::MAX_DEFINITION;
use super::export::require_server_files;
use super::key::of_file;
use super::named_file::NamedFile;
use super::plan::as_query;

use crate::datatype::encoding;
use crate::datum::Text;
use crate::error::Error;
use pgrx::pg_sys;
use prism_envelope::file::{Compression, FileError, Opener};
use rustix::fs::{self, Mode, OFlags};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// The content of a file of the server, or of pieces that a query gives.
pub struct Source {
    content: BufReader<Box<dyn Read>>,
    /// JSON, in UTF-8.
    pub definition: Vec<u8>,
    bytes: Rc<Cell<u64>>,
    length: Option<u64>,
}

impl Source {
    /// Opens it, and reads the definition. One of `path` and `chunks`, a query, is there. Files are for roles that may read files of the server.
    pub fn open(
        path: Option<Text<'_>>,
        chunks: Option<Text<'_>>,
        key: Option<Text<'_>>,
    ) -> Result<Self, Error> {
        let mut length = None;
        let bytes: Box<dyn Read> = match (path, chunks) {
            (Some(path), None) => {
                let path = Path::new(OsStr::from_bytes(path.0.bytes()));
                let file = open_file(path)?;
                length = file.metadata().ok().map(|metadata| metadata.len());
                Box::new(NamedFile::new(file, path))
            }
            (None, Some(query)) => Box::new(Chunks::of(&as_query(query)?)?),
            _ => return Err(Error::OneOf("what is imported", "a path or a query")),
        };
        let counted = Counted { inner: bytes, bytes: Rc::default() };
        let bytes = Rc::clone(&counted.bytes);
        let opener = Opener::new(BufReader::with_capacity(1 << 18, counted))?;
        let header = opener.header().cloned();
        let key = of_file(key, header.as_ref().map(|header| &header.key))?;
        // From here on the header is known to be what was written.
        let content = opener.content(&key)?;
        if let Some(other) =
            header.as_ref().map(|header| &header.content_type).filter(|it| *it != CONTENT_TYPE)
        {
            return Err(Error::FileContent(other.chars().take(100).collect()));
        }
        let content: Box<dyn Read> = match header.map(|header| header.compression) {
            Some(Compression::Zstd) => {
                length = None;
                Box::new(zstd::Decoder::new(content).map_err(FileError::from)?)
            }
            _ => Box::new(content),
        };
        let mut content = BufReader::with_capacity(1 << 16, content);
        let mut definition = Vec::new();
        content
            .by_ref()
            .take(MAX_DEFINITION as u64)
            .read_until(b'\n', &mut definition)
            .map_err(FileError::from)?;
        if definition.pop() != Some(b'\n') {
            return Err(Error::FileHeader);
        }
        if !encoding::is_utf8(&definition) {
            return Err(Error::FileHeader);
        }
        Ok(Self { content, definition, bytes, length })
    }

    /// About how many bytes the content has: none for a stream, or what is compressed.
    pub fn plain_length(&self) -> Option<u64> {
        self.length
    }

    /// How many bytes of the file were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// As much as there is, up to the length of `out`; 0 at the end.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        Ok(self.content.read(out).map_err(FileError::from)?)
    }
}

struct Counted {
    inner: Box<dyn Read>,
    bytes: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

fn open_file(path: &Path) -> Result<File, Error> {
    require_server_files(pg_sys::ROLE_PG_READ_SERVER_FILES, "read")?;
    if !path.is_absolute() {
        return Err(Error::FilePath(path.display().to_string()));
    }
    let failed = |error| Error::file("read", path, error);
    // Without waiting for the other end of a FIFO.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?);
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::NotRegularFile(path.display().to_string()));
    }
    Ok(file)
}
