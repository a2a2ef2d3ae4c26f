//! `_export_rows`: the rows of a query into an encrypted file.

use super::CONTENT_TYPE;
use super::key::for_new_file;
use super::new_file::NewFile;
use super::rows::each_row;
use crate::error::Error;
use crate::privilege::require_execute;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::KeyBytes;
use prism_envelope::file::{Compression, FileError, Header, KeySource, MAX_WHOLE_LEN, create, write_whole};
use std::ffi::CString;
use std::io::{BufWriter, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// `prism_crypt._export_rows(query text, definition text, path text, key text, format integer, compression text, overwrite boolean, OUT rows
/// bigint, OUT size_bytes bigint)`: writes the definition and the rows of the query, which is run with the caller's rights. The key may be null.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as SQL has them")]
fn _export_rows(
    query: &str,
    definition: &str,
    path: &str,
    key: Option<&str>,
    format: i32,
    compression: &str,
    overwrite: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(rows, i64), name!(size_bytes, i64))>, ErrorReport> {
    require_execute(fcinfo)?;
    require_server_files(pg_sys::ROLE_PG_WRITE_SERVER_FILES, "write")?;
    let compression = match compression {
        "none" => Compression::None,
        "zstd" => Compression::Zstd,
        _ => return Err(Error::OutOfRange("compression").into()),
    };
    let query = CString::new(query).map_err(|_| Error::Internal("a query with a zero byte"))?;
    let (key, source) = for_new_file(key)?;
    let path = Path::new(path);
    if !overwrite && std::fs::symlink_metadata(path).is_ok() {
        return Err(Error::FileExists(path.display().to_string()).into());
    }
    let file = NewFile::create(path)?;
    let (rows, file) = match format {
        1 => whole(&query, definition, file, &key, &source, compression)?,
        2 => chunked(&query, definition, file, &key, source, compression)?,
        _ => return Err(Error::OutOfRange("format").into()),
    };
    let size = file.publish(overwrite)?;
    Ok(TableIterator::once((rows.cast_signed(), size.cast_signed())))
}

fn chunked(
    query: &CString,
    definition: &str,
    file: NewFile,
    key: &KeyBytes,
    source: KeySource,
    compression: Compression,
) -> Result<(u64, NewFile), Error> {
    let header = Header { key: source, content_type: CONTENT_TYPE.to_owned(), compression };
    let encryptor = create(BufWriter::with_capacity(1 << 18, file), &header, key)?;
    let (rows, encryptor) = match compression {
        Compression::None => write_rows(query, definition, encryptor)?,
        Compression::Zstd => {
            let compressor = zstd::Encoder::new(encryptor, 0).map_err(FileError::from)?;
            let (rows, compressor) = write_rows(query, definition, compressor)?;
            (rows, compressor.finish().map_err(FileError::from)?)
        }
    };
    let file = encryptor.finish()?.into_inner().map_err(|error| FileError::from(error.into_error()))?;
    Ok((rows, file))
}

fn whole(
    query: &CString,
    definition: &str,
    file: NewFile,
    key: &KeyBytes,
    source: &KeySource,
    compression: Compression,
) -> Result<(u64, NewFile), Error> {
    // It has no header to say so.
    if !matches!(source, KeySource::Given {}) || compression != Compression::None {
        return Err(Error::PlainFormat);
    }
    let (rows, content) = write_rows(query, definition, Whole(Zeroizing::new(Vec::new())))?;
    Ok((rows, write_whole(file, content.0, key)?))
}

fn write_rows<W: Write>(query: &CString, definition: &str, mut out: W) -> Result<(u64, W), Error> {
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(|error| Error::from(FileError::from(error)));
    write(definition.as_bytes())?;
    write(b"\n")?;
    // SAFETY: inside a transaction, connected to SPI.
    let rows = Spi::connect(|_| unsafe { each_row(query, write) })?;
    Ok((rows, out))
}

/// Memory that is wiped when it grows, and has a limit.
struct Whole(Zeroizing<Vec<u8>>);

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.0.len() + bytes.len();
        if len > MAX_WHOLE_LEN {
            return Err(FileError::Length.into());
        }
        if len > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * len).clamp(1 << 16, MAX_WHOLE_LEN)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// As `COPY` asks for it.
pub fn require_server_files(role: u32, what: &'static str) -> Result<(), Error> {
    // SAFETY: catalog look-ups inside a transaction.
    let has = unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) };
    if has { Ok(()) } else { Err(Error::ServerFileDenied(what)) }
}
