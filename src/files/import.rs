//! `_file_definition` and `_import_rows`: the rows of an encrypted file, or of the pieces of one, into a table, by `COPY FROM`.

use super::progress::mark_import;
use super::record::{record, relation_name};
use super::source::Source;
use crate::datatype::OpenedInput;
use crate::datum::{Text, TextResult};
use crate::error::{Error, SqlResult};
use crate::privilege::require_execute;
use crate::sampling::Open;
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr::null_mut;

thread_local! {
    /// What the running import reads. `COPY` calls back without an argument of ours.
    static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// `prism_crypt._file_definition(path text, chunks text, key text) → text`: what an encrypted file, or the pieces of one that a query gives, says of its
/// table. One of the two is null; the key may be null.
#[pg_extern(sql = false)]
fn _file_definition(
    path: Option<Text<'_>>,
    chunks: Option<Text<'_>>,
    key: Option<Text<'_>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<TextResult> {
    require_execute(fcinfo)?;
    let source = Source::open(path, chunks, key)?;
    Ok(TextResult(in_server_encoding(&source.definition)?))
}

/// Raises PostgreSQL's own error if a character has no equivalent there.
fn in_server_encoding(utf8: &[u8]) -> Result<Varlena, Error> {
    let length = c_int::try_from(utf8.len()).map_err(|_| Error::FileHeader)?;
    // SAFETY: a text in UTF-8; the result is the same pointer, or a terminated string.
    unsafe {
        let start = utf8.as_ptr().cast();
        let converted = pg_sys::pg_any_to_server(start, length, pg_sys::pg_enc::PG_UTF8.cast_signed());
        let is_same = converted.cast_const() == start;
        Varlena::copy_of(if is_same { utf8 } else { CStr::from_ptr(converted).to_bytes() })
    }
}

/// `prism_crypt._import_rows(path text, chunks text, key text, target oid, columns smallint[], opened boolean, OUT rows bigint, OUT bytes
/// bigint)`: appends the rows of a file to these columns of a table, as `COPY` would for the current role. How many rows they are, and how many bytes
/// the file has. `opened` says that no column of the file is ciphertext.
#[pg_extern(sql = false)]
fn _import_rows(
    path: Option<Text<'_>>,
    chunks: Option<Text<'_>>,
    key: Option<Text<'_>>,
    target: pg_sys::Oid,
    columns: Vec<Option<i16>>,
    opened: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(rows, i64), name!(bytes, i64))>, ErrorReport> {
    require_execute(fcinfo)?;
    let (event, from) = match &path {
        Some(path) => ("import_encrypted", String::from_utf8_lossy(path.0.bytes()).into_owned()),
        None => ("import_stream", "a stream".to_owned()),
    };
    let source = Source::open(path, chunks, key)?;
    let length = source.plain_length();
    let reading = Reading::of(source)?;
    let _input = opened.then(OpenedInput::begin);
    // SAFETY: inside a transaction.
    let rows = unsafe { copy_from(target, &columns, length) }?;
    record(event, &format!("{rows} rows of {from} to {}", relation_name(target)), fcinfo)?;
    Ok(TableIterator::once((rows.cast_signed(), reading.bytes().cast_signed())))
}

/// While it is there, `COPY` reads from a source.
struct Reading;

impl Reading {
    fn of(source: Source) -> Result<Self, Error> {
        SOURCE.with(|current| {
            let mut current = current.borrow_mut();
            if current.is_some() {
                return Err(Error::Internal("an import inside of an import"));
            }
            *current = Some(source);
            Ok(Self)
        })
    }
}

impl Reading {
    fn bytes(&self) -> u64 {
        SOURCE.with(|current| current.borrow().as_ref().map_or(0, Source::bytes))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        SOURCE.with(|current| current.take());
    }
}

/// # Safety
/// Inside a transaction, with a [`Reading`].
unsafe fn copy_from(target: pg_sys::Oid, columns: &[Option<i16>], length: Option<u64>) -> Result<u64, Error> {
    let lock = pg_sys::RowExclusiveLock;
    let table = Open::new(target, lock).ok_or(Error::Internal("the table is gone"))?;
    // SAFETY: the relation is open and locked; what COPY needs is made as for the initial copy of a subscription, tablesync.c.
    unsafe {
        require_insert(table.relation(), columns)?;
        let state = pg_sys::make_parsestate(null_mut());
        pg_sys::addRangeTableEntryForRelation(
            state,
            table.relation(),
            lock.cast_signed(),
            null_mut(),
            false,
            false,
        );
        let mut names = null_mut();
        for column in columns.iter().flatten() {
            let name = pg_sys::get_attname(target, *column, false);
            names = pg_sys::lappend(names, pg_sys::makeString(name).cast());
        }
        let encoding = pg_sys::makeString(pg_sys::pstrdup(c"UTF8".as_ptr())).cast();
        let option = pg_sys::makeDefElem(pg_sys::pstrdup(c"encoding".as_ptr()), encoding, -1);
        let options = pg_sys::lappend(null_mut(), option.cast());
        let copy = pg_sys::BeginCopyFrom(
            state,
            table.relation(),
            null_mut(),
            null_mut(),
            false,
            Some(read_source),
            names,
            options,
        );
        mark_import(length);
        let rows = pg_sys::CopyFrom(copy);
        pg_sys::EndCopyFrom(copy);
        pg_sys::free_parsestate(state);
        Ok(rows)
    }
}

/// What `COPY FROM` checks before it begins: DoCopy in copy.c.
///
/// # Safety
/// The relation is open.
unsafe fn require_insert(relation: pg_sys::Relation, columns: &[Option<i16>]) -> Result<(), Error> {
    let insert = pg_sys::AclMode::from(pg_sys::ACL_INSERT);
    // SAFETY: catalog look-ups.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(c"import".as_ptr());
        let (table, role) = ((*relation).rd_id, pg_sys::GetUserId());
        let is_ok = |result| result == pg_sys::AclResult::ACLCHECK_OK;
        let may = is_ok(pg_sys::pg_class_aclcheck(table, role, insert))
            || columns
                .iter()
                .flatten()
                .all(|column| is_ok(pg_sys::pg_attribute_aclcheck(table, *column, role, insert)));
        let row_security = pg_sys::check_enable_rls(table, pg_sys::InvalidOid, false).cast_unsigned();
        if !may || row_security == pg_sys::CheckEnableRlsResult::RLS_ENABLED {
            return Err(Error::ImportDenied);
        }
    }
    Ok(())
}

/// `copy_data_source_cb` (commands/copy.h): at least `least` bytes, or all that are left; at most `most`.
#[pg_guard]
unsafe extern "C-unwind" fn read_source(out: *mut c_void, least: c_int, most: c_int) -> c_int {
    let (least, most) = (usize::try_from(least).unwrap_or(0), usize::try_from(most).unwrap_or(0));
    // SAFETY: a buffer of that length.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), most) };
    let result = SOURCE.with(|current| {
        let mut source = current.borrow_mut();
        let source = source.as_mut().ok_or(Error::Internal("nothing to import"))?;
        let mut filled = 0;
        while filled < least.max(1) {
            match source.read(&mut out[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    });
    match result {
        Ok(filled) => c_int::try_from(filled).unwrap_or(0),
        Err(error) => {
            Error::raise(error);
            0
        }
    }
}
