//! `COPY FROM` that reads what a file holds.

use super::progress::mark_import;
use super::source::Source;
use crate::error::Error;
use crate::sampling::Open;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

thread_local! {
    /// What imports read: the one that runs is the last. `COPY` calls back without an argument of ours.
    static SOURCES: RefCell<Vec<Reader>> = const { RefCell::new(Vec::new()) };
}

struct Reader {
    source: Source,
    rows: RowBytes,
    /// The `COPY` that reads it, once it has begun.
    copy: *mut c_void,
}

/// While it is there, `COPY` reads from a source. Another import may begin inside, and ends there.
pub struct Reading {
    depth: usize,
}

impl Reading {
    /// Begins it.
    pub fn of(source: Source) -> Self {
        SOURCES.with_borrow_mut(|sources| {
            let depth = sources.len();
            sources.push(Reader { source, rows: RowBytes::default(), copy: null_mut() });
            Self { depth }
        })
    }

    /// Requires that all of it was read: `COPY` may stop before. How many bytes the file had.
    pub fn end(self) -> Result<u64, Error> {
        with_reader(|reader| {
            let mut rest = [0; 256];
            if reader.source.read(&mut rest)? > 0 {
                return Err(Error::FileTrailing);
            }
            Ok(reader.source.bytes())
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let ended = SOURCES.with_borrow_mut(|sources| sources.split_off(self.depth.min(sources.len())));
        // It may close a cursor, after it is out of the list.
        drop(ended);
    }
}

/// The reader is out of the list while it is used, because reading may run a query that imports.
fn with_reader<T>(use_reader: impl FnOnce(&mut Reader) -> Result<T, Error>) -> Result<T, Error> {
    let mut reader = SOURCES.with_borrow_mut(Vec::pop).ok_or(Error::Internal("nothing to import"))?;
    let result = use_reader(&mut reader);
    SOURCES.with_borrow_mut(|readers| readers.push(reader));
    result
}

/// Appends what the innermost [`Reading`] gives to these columns of a table. How many rows they are; `length` is how many bytes, if that is known.
pub fn copy_from(target: pg_sys::Oid, columns: &[i16], length: Option<u64>) -> Result<u64, Error> {
    let lock = pg_sys::RowExclusiveLock;
    let table = Open::new(target, lock).ok_or(Error::Internal("the table is gone"))?;
    // SAFETY: the relation is open and locked; what COPY needs is made as for the initial copy of a subscription, tablesync.c.
    unsafe {
        // An empty list would mean all columns.
        if columns.is_empty() && (*(*table.relation()).rd_att).natts > 0 {
            return Err(Error::ImportColumns);
        }
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
        for column in columns {
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
        with_reader(|reader| {
            reader.copy = copy.cast();
            Ok(())
        })?;
        mark_import(length);
        let rows = pg_sys::CopyFrom(copy);
        pg_sys::EndCopyFrom(copy);
        pg_sys::free_parsestate(state);
        Ok(rows)
    }
}

/// What `COPY FROM` checks before it begins: DoCopy in copy.c.
pub fn require_insert(table: pg_sys::Oid, columns: &[i16]) -> Result<(), Error> {
    let insert = pg_sys::AclMode::from(pg_sys::ACL_INSERT);
    let is_ok = |result| result == pg_sys::AclResult::ACLCHECK_OK;
    // SAFETY: catalog look-ups.
    unsafe {
        let role = pg_sys::GetUserId();
        let may = is_ok(pg_sys::pg_class_aclcheck(table, role, insert))
            || !columns.is_empty()
                && columns
                    .iter()
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
    let result = with_reader(|reader| {
        // SAFETY: `COPY` runs, and has pushed what describes it onto the stack of contexts.
        unsafe { hide_rows_from_contexts(reader.copy) };
        let mut filled = 0;
        while filled < least.max(1) {
            match reader.source.read(&mut out[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        reader.rows.see(&out[..filled])?;
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

/// `COPY` describes the row that it is at in the context of errors, and to each function that asks for its context: a trigger would see plaintext.
///
/// # Safety
/// The entries of the stack are alive, as they are while a function runs.
unsafe fn hide_rows_from_contexts(copy: *mut c_void) {
    // SAFETY: as promised by the caller; the list ends with null.
    unsafe {
        let mut entry = pg_sys::error_context_stack;
        while !entry.is_null() {
            if (*entry).arg == copy {
                (*entry).callback = Some(say_nothing);
            }
            entry = (*entry).previous;
        }
    }
}

unsafe extern "C-unwind" fn say_nothing(_: *mut c_void) {}

/// Finds the marker `\.`, at which `COPY` would stop, in whatever pieces the rows come. A backslash begins an escape, as `copy_text` writes them.
#[derive(Default)]
struct RowBytes {
    in_escape: bool,
}

impl RowBytes {
    fn see(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        loop {
            if self.in_escape {
                let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
                if *first == b'.' {
                    return Err(Error::FileTrailing);
                }
                self.in_escape = false;
                bytes = rest;
            }
            let Some(at) = memchr::memchr(b'\\', bytes) else { return Ok(()) };
            self.in_escape = true;
            bytes = bytes.get(at + 1..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RowBytes;

    #[test]
    fn the_end_marker_is_found_in_any_pieces() {
        let found = |pieces: &[&[u8]]| {
            let mut rows = RowBytes::default();
            pieces.iter().any(|piece| rows.see(piece).is_err())
        };
        for pieces in
            [&[b"\\.\n".as_slice()] as &[&[u8]], &[b"a\tb\n\\", b".\n"], &[b"a\\", b"", b"."], &[b"\\\\\\."]]
        {
            assert!(found(pieces), "{pieces:?}");
        }
        for pieces in
            [&[b"\\\\.\n".as_slice()] as &[&[u8]], &[b"a.b\n.\n"], &[b"\\", b"\\", b"."], &[b"\\N.\n"]]
        {
            assert!(!found(pieces), "{pieces:?}");
        }
    }
}
