//! `_export_rows`: the rows of a table, a view or a query into an encrypted file.

use super::content::{Content, compression_named};
use super::definition::Exported;
use super::key::{for_new_file, name_of_source};
use super::named_file::NamedFile;
use super::new_file::NewFile;
use super::plan::Plan;
use super::progress::Progress;
use super::record::{record, relation_name};
use super::rows::Rows;
use crate::datum::{Text, TextResult};
use crate::error::{Error, warn};
use crate::privilege::require_execute;
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::KeyBytes;
use prism_envelope::file::{Compression, FileError, KeySource, MAX_WHOLE_LEN, write_whole};
use std::ffi::{OsStr, c_long};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zeroize::Zeroizing;

const BUFFER: usize = 256 << 10;

type OutFile = NamedFile<NewFile>;

/// `prism_crypt._export_rows(source text, path text, key text, format integer, compression text, overwrite boolean, OUT collection text, OUT rows
/// bigint, OUT size_bytes bigint)`: writes the definition and the rows of the source, which is read with the caller's rights. The key may be null.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it as it is written")]
fn _export_rows(
    source: Option<Text<'_>>,
    path: Text<'_>,
    key: Option<Text<'_>>,
    format: Option<i32>,
    compression: Text<'_>,
    overwrite: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<'static, (name!(collection, TextResult), name!(rows, i64), name!(size_bytes, i64))>,
    ErrorReport,
> {
    require_execute(fcinfo)?;
    require_server_files(pg_sys::ROLE_PG_WRITE_SERVER_FILES, "write")?;
    let compression = compression_named(compression)?;
    let (key, key_source) = for_new_file(key)?;
    let name_of_key = name_of_source(&key_source);
    let name = path.0.bytes();
    let path = Path::new(OsStr::from_bytes(name));
    if !path.is_absolute() {
        return Err(Error::FilePath(path.display().to_string()).into());
    }
    let file = NamedFile::new(NewFile::create(path, overwrite == Some(true))?, path);
    let exported = Exported::named(source)?;
    let relations = names_of_relations(&exported)?;
    let (rows, file) = match format {
        Some(1) => whole(&exported, file, &key, &key_source, compression)?,
        Some(2) => chunked(&exported, file, &key, key_source, compression)?,
        _ => return Err(Error::OneOf("format", "1 or 2").into()),
    };
    // Without a record there is no file.
    let count = rows.to_string();
    let detail: [&[u8]; 7] =
        [count.as_bytes(), b" rows of ", &relations, b" to ", name, b", key: ", name_of_key.as_bytes()];
    record("export_encrypted", &detail, fcinfo)?;
    let size = file.inner.publish()?;
    let collection = TextResult(Varlena::copy_of(&exported.collection)?);
    Ok(TableIterator::once((collection, rows.cast_signed(), size.cast_signed())))
}

fn chunked(
    exported: &Exported,
    file: OutFile,
    key: &KeyBytes,
    source: KeySource,
    compression: Compression,
) -> Result<(u64, OutFile), Error> {
    let file = BufWriter::with_capacity(BUFFER, file);
    let (rows, content) = write_rows(exported, Content::begin(file, key, source, compression)?)?;
    let file = content.finish()?.into_inner().map_err(|error| FileError::from(error.into_error()))?;
    Ok((rows, file))
}

fn whole(
    exported: &Exported,
    file: OutFile,
    key: &KeyBytes,
    source: &KeySource,
    compression: Compression,
) -> Result<(u64, OutFile), Error> {
    // It has no header to say so.
    if !matches!(source, KeySource::Given {}) || compression != Compression::None {
        return Err(Error::PlainFormat);
    }
    let (rows, content) = write_rows(exported, Whole(Zeroizing::new(Vec::new())))?;
    Ok((rows, write_whole(file, content.0, key)?))
}

fn write_rows<W: Write>(exported: &Exported, mut out: W) -> Result<(u64, W), Error> {
    let progress = Progress::of_export(exported.relation);
    write_definition(&mut out, exported)?;
    let mut rows = Rows::of(&exported.query, exported.shown)?;
    while rows.next(c_long::MAX, |row, rows, bytes| {
        progress.update(rows, bytes);
        write(&mut out, row)
    })? {}
    rows.end();
    Ok((rows.count, out))
}

/// The first line of a content.
pub fn write_definition(out: &mut impl Write, exported: &Exported) -> Result<(), Error> {
    write(out, &exported.definition)?;
    write(out, b"\n")
}

/// Writes all of it.
pub fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), Error> {
    Ok(out.write_all(bytes).map_err(FileError::from)?)
}

/// What a source reads, for the audit log. Warns of row-level security.
pub fn names_of_relations(exported: &Exported) -> Result<Vec<u8>, Error> {
    let (relations, limited) =
        Plan::with(&exported.query, |plan| Ok((plan.relations(), plan.limited_relation())))?;
    if let Some(limited) = limited {
        let name = String::from_utf8_lossy(&relation_name(limited)).into_owned();
        let message = format!("row-level security of {name} may leave out rows");
        warn(&message, None, Some("SET row_security = off makes that an error."));
    }
    let names: Vec<Vec<u8>> = relations.into_iter().map(relation_name).collect();
    Ok(if names.is_empty() { b"no table".to_vec() } else { names.join(b", ".as_slice()) })
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
            let mut larger = Zeroizing::new(Vec::new());
            let wanted = (2 * len).clamp(1 << 16, MAX_WHOLE_LEN);
            larger.try_reserve_exact(wanted).map_err(|_| FileError::OutOfMemory)?;
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
