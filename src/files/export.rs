//! `_export_rows` and `_export_chunks`: the rows of a query, into an encrypted file or as pieces of one.

use super::content::{Content, compression_named};
use super::key::for_new_file;
use super::new_file::NewFile;
use super::plan::{Plan, as_query};
use super::progress::Progress;
use super::record::{record, relation_name};
use super::rows::Rows;
use crate::datatype::encoding;
use crate::datum::Text;
use crate::error::Error;
use crate::privilege::require_execute;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::KeyBytes;
use prism_envelope::file::{Compression, FileError, KeySource, MAX_WHOLE_LEN, write_whole};
use std::cell::RefCell;
use std::ffi::{CStr, OsStr};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use zeroize::Zeroizing;

/// A piece of a stream has at least so many bytes, but for the last one.
const PIECE: usize = 256 << 10;

/// `prism_crypt._export_rows(query text, definition text, relation oid, path text, key text, format integer, compression text, overwrite boolean,
/// OUT rows bigint, OUT size_bytes bigint)`: writes the definition and the rows of the query, which is run with the caller's rights. The relation is
/// what progress shows; 0 for a query. The key may be null.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as SQL has them")]
fn _export_rows(
    query: Text<'_>,
    definition: Text<'_>,
    relation: pg_sys::Oid,
    path: Text<'_>,
    key: Option<Text<'_>>,
    format: i32,
    compression: Text<'_>,
    overwrite: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(rows, i64), name!(size_bytes, i64))>, ErrorReport> {
    require_execute(fcinfo)?;
    require_server_files(pg_sys::ROLE_PG_WRITE_SERVER_FILES, "write")?;
    let compression = compression_named(compression)?;
    let (query, definition) = (as_query(query)?, as_utf8(definition)?);
    let (key, source) = for_new_file(key)?;
    let path = Path::new(OsStr::from_bytes(path.0.bytes()));
    if !overwrite && std::fs::symlink_metadata(path).is_ok() {
        return Err(Error::FileExists(path.display().to_string()).into());
    }
    let file = NewFile::create(path)?;
    let of_key = key_source_name(&source);
    let relations = relations_of(&query)?;
    let progress = Progress::of_export(relation);
    let (rows, file) = match format {
        1 => whole(&query, &definition, file, &key, &source, compression, &progress)?,
        2 => chunked(&query, &definition, file, &key, source, compression, &progress)?,
        _ => return Err(Error::OutOfRange("format").into()),
    };
    drop(progress);
    let detail = format!("{rows} rows of {relations} to {}, key: {of_key}", path.display());
    record("export_encrypted", &detail, fcinfo)?;
    let size = file.publish(overwrite)?;
    Ok(TableIterator::once((rows.cast_signed(), size.cast_signed())))
}

fn chunked(
    query: &CStr,
    definition: &[u8],
    file: NewFile,
    key: &KeyBytes,
    source: KeySource,
    compression: Compression,
    progress: &Progress,
) -> Result<(u64, NewFile), Error> {
    let file = BufWriter::with_capacity(PIECE, file);
    let (rows, content) =
        write_rows(query, definition, Content::begin(file, key, source, compression)?, progress)?;
    let file = content.finish()?.into_inner().map_err(|error| FileError::from(error.into_error()))?;
    Ok((rows, file))
}

fn whole(
    query: &CStr,
    definition: &[u8],
    file: NewFile,
    key: &KeyBytes,
    source: &KeySource,
    compression: Compression,
    progress: &Progress,
) -> Result<(u64, NewFile), Error> {
    // It has no header to say so.
    if !matches!(source, KeySource::Given {}) || compression != Compression::None {
        return Err(Error::PlainFormat);
    }
    let (rows, content) = write_rows(query, definition, Whole(Zeroizing::new(Vec::new())), progress)?;
    Ok((rows, write_whole(file, content.0, key)?))
}

fn write_rows<W: Write>(
    query: &CStr,
    definition: &[u8],
    mut out: W,
    progress: &Progress,
) -> Result<(u64, W), Error> {
    write_definition(&mut out, definition)?;
    let mut rows = Rows::of(query)?;
    while rows.next(|row| write(&mut out, row))? {
        progress.update(rows.count, rows.bytes);
    }
    Ok((rows.count, out))
}

fn relations_of(query: &CStr) -> Result<String, Error> {
    let relations = Plan::with(query, |plan| Ok(plan.relations()))?;
    let names: Vec<String> = relations.into_iter().map(relation_name).collect();
    Ok(if names.is_empty() { "no table".to_owned() } else { names.join(", ") })
}

fn key_source_name(source: &KeySource) -> &'static str {
    match source {
        KeySource::Given {} => "given",
        KeySource::Wrapped { .. } => "master",
    }
}

fn write_definition(out: &mut impl Write, definition: &[u8]) -> Result<(), Error> {
    write(out, definition)?;
    write(out, b"\n")
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), Error> {
    Ok(out.write_all(bytes).map_err(FileError::from)?)
}

fn as_utf8(text: Text<'_>) -> Result<Vec<u8>, Error> {
    encoding::with_utf8(text.0.bytes(), |text| Ok(text.to_vec()))
}

/// `prism_crypt._export_chunks(query text, definition text, relation oid, key text, compression text) → setof bytea`: the same file in pieces, each
/// made when it is asked for. The key may be null.
#[pg_extern(sql = false)]
fn _export_chunks(
    query: Text<'_>,
    definition: Text<'_>,
    relation: pg_sys::Oid,
    key: Option<Text<'_>>,
    compression: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<SetOfIterator<'static, Vec<u8>>, ErrorReport> {
    require_execute(fcinfo)?;
    let (key, source) = for_new_file(key)?;
    let query = as_query(query)?;
    // Before the first piece leaves.
    let detail = format!("{} to the client, key: {}", relations_of(&query)?, key_source_name(&source));
    record("export_stream", &detail, fcinfo)?;
    let pieces = Rc::new(RefCell::new(Vec::new()));
    let mut content =
        Content::begin(Shared(Rc::clone(&pieces)), &key, source, compression_named(compression)?)?;
    write_definition(&mut content, &as_utf8(definition)?)?;
    let rows = Rows::of(&query)?;
    let progress = Progress::of_export(relation);
    Ok(SetOfIterator::new(Pieces { rows, content: Some(content), pieces, progress }))
}

/// Memory to which one writes and from which another one takes.
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pieces {
    rows: Rows,
    /// Until the last row.
    content: Option<Content<Shared>>,
    pieces: Rc<RefCell<Vec<u8>>>,
    progress: Progress,
}

impl Pieces {
    fn fill(&mut self) -> Result<(), Error> {
        while self.pieces.borrow().len() < PIECE
            && let Some(content) = &mut self.content
        {
            if !self.rows.next(|row| write(content, row))?
                && let Some(content) = self.content.take()
            {
                content.finish()?;
            }
            self.progress.update(self.rows.count, self.rows.bytes);
        }
        Ok(())
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Err(error) = self.fill() {
            error.raise();
        }
        Some(self.pieces.take()).filter(|piece| !piece.is_empty())
    }
}

/// Memory that is wiped when it grows, and has a limit.
struct Whole(Zeroizing<Vec<u8>>);

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As `COPY` asks for it.
pub fn require_server_files(role: u32, what: &'static str) -> Result<(), Error> {
    // SAFETY: catalog look-ups inside a transaction.
    let has = unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) };
    if has { Ok(()) } else { Err(Error::ServerFileDenied(what)) }
}
