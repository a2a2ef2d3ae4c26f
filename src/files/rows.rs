//! The rows of a query, as text in UTF-8; and chunks of bytes that a query gives.

use super::copy_text::push_field;
use super::plan::Plan;
use crate::error::Error;
use pgrx::prelude::Spi;
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::{CStr, CString};
use std::io;
use std::ptr::{null, null_mut};

/// The most rows that are fetched at once; fewer, if they are wide: about so many bytes. The first time it is not known yet.
const MOST_ROWS: u64 = 1000;
const BATCH_BYTES: u64 = 256 << 10;
const FIRST_ROWS: u64 = 10;

/// A cursor, which lives to the end of the transaction, or of its rows. It is known by its name, so that a function may come back to it.
struct Cursor(CString);

impl Cursor {
    /// The query is planned and run with the rights of the current role, in a snapshot of this moment.
    fn open(query: &CStr) -> Result<Self, Error> {
        Plan::with(query, |plan| {
            // SAFETY: connected to SPI; the portal takes over what it needs of the plan.
            unsafe {
                let portal = pg_sys::SPI_cursor_open(null(), plan.0, null_mut(), null(), false);
                Ok(Self(CStr::from_ptr((*portal).name).to_owned()))
            }
        })
    }

    /// The types of its columns.
    fn types(&self) -> Result<Vec<pg_sys::Oid>, Error> {
        // SAFETY: a portal that is open has a descriptor if it gives rows.
        Spi::connect(|_| unsafe {
            let portal = pg_sys::SPI_cursor_find(self.0.as_ptr());
            if portal.is_null() || (*portal).tupDesc.is_null() {
                return Err(Error::Internal("the cursor of a query is gone"));
            }
            let columns = pgrx::PgTupleDesc::from_pg_unchecked((*portal).tupDesc);
            Ok(columns.iter().map(|column| column.atttypid).collect())
        })
    }

    /// Passes the next rows to `see`, at most so many. How many there were; after the last ones the cursor is closed.
    fn fetch(
        &self,
        most: i64,
        mut see: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        // SAFETY: connected to SPI; the rows are there until they are freed.
        Spi::connect(|_| unsafe {
            let portal = pg_sys::SPI_cursor_find(self.0.as_ptr());
            if portal.is_null() {
                return Err(Error::Internal("the cursor of a query is gone"));
            }
            pg_sys::SPI_cursor_fetch(portal, true, most);
            let (table, fetched) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed);
            if fetched == 0 {
                pg_sys::SPI_cursor_close(portal);
                return Ok(0);
            }
            let tuples = std::slice::from_raw_parts((*table).vals, usize::try_from(fetched).unwrap_or(0));
            for tuple in tuples {
                see(*tuple, (*table).tupdesc)?;
            }
            pg_sys::SPI_freetuptable(table);
            Ok(fetched)
        })
    }
}

/// Rows of a query in the text format of `COPY`.
pub struct Rows {
    cursor: Cursor,
    fields: Option<Fields>,
    /// For the text of a row. It lives as long as the transaction: these may be dropped later than what a function was called in.
    memory: pg_sys::MemoryContext,
    batch: u64,
    /// Rows so far, and bytes of their text.
    pub count: u64,
    pub bytes: u64,
}

impl Rows {
    /// Begins to run the query.
    pub fn of(query: &CStr) -> Result<Self, Error> {
        let cursor = Cursor::open(query)?;
        // SAFETY: inside a transaction.
        let memory = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopTransactionContext,
                c"prism_crypt export".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        Ok(Self { cursor, fields: None, memory, batch: FIRST_ROWS, count: 0, bytes: 0 })
    }

    /// Passes some rows to `see`, each with a newline. False at the end.
    pub fn next(&mut self, mut see: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<bool, Error> {
        pgrx::check_for_interrupts!();
        let (fields, memory) = (&mut self.fields, self.memory);
        let mut bytes = 0;
        let fetched = self.cursor.fetch(self.batch.cast_signed(), |tuple, descriptor| {
            // SAFETY: a row of this cursor, whose columns stay the same.
            unsafe {
                let fields = fields.get_or_insert_with(|| Fields::of(descriptor));
                let row = PgMemoryContexts::For(memory).switch_to(|_| fields.row(tuple, descriptor));
                bytes += row.len() as u64;
                see(row)?;
                pg_sys::MemoryContextReset(memory);
            }
            Ok(())
        })?;
        self.count += fetched;
        self.bytes += bytes;
        self.batch = (BATCH_BYTES * fetched / bytes.max(1)).clamp(1, MOST_ROWS);
        Ok(fetched > 0)
    }
}

/// How each column is put out, and room for one row.
struct Fields {
    output: Vec<pg_sys::FmgrInfo>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    row: Vec<u8>,
}

impl Fields {
    /// # Safety
    /// A descriptor of rows, inside a transaction.
    unsafe fn of(descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: as promised by the caller; catalog look-ups. What they find stays for the whole transaction.
        unsafe {
            let columns = pgrx::PgTupleDesc::from_pg_unchecked(descriptor);
            let output: Vec<pg_sys::FmgrInfo> = columns
                .iter()
                .map(|column| {
                    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
                    pg_sys::getTypeOutputInfo(column.atttypid, &raw mut function, &raw mut is_varlena);
                    let mut info = pg_sys::FmgrInfo::default();
                    pg_sys::fmgr_info_cxt(function, &raw mut info, pg_sys::TopTransactionContext);
                    info
                })
                .collect();
            let (values, nulls) = (vec![pg_sys::Datum::null(); output.len()], vec![false; output.len()]);
            Self { output, values, nulls, row: Vec::new() }
        }
    }

    /// # Safety
    /// A row of that kind, and the current memory is one that is reset after it.
    unsafe fn row(&mut self, tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> &[u8] {
        self.row.clear();
        // SAFETY: as promised by the caller; the arrays have as many members as the row has columns.
        unsafe {
            pg_sys::heap_deform_tuple(tuple, descriptor, self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
            for (at, output) in self.output.iter_mut().enumerate() {
                if self.nulls[at] {
                    push_field(&mut self.row, at == 0, None);
                    continue;
                }
                let text = pg_sys::OutputFunctionCall(output, self.values[at]);
                let text = CStr::from_ptr(text).to_bytes();
                let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
                let encoding = pg_sys::pg_enc::PG_UTF8.cast_signed();
                let utf8 = pg_sys::pg_server_to_any(text.as_ptr().cast(), length, encoding);
                let is_same = utf8.cast_const().cast() == text.as_ptr();
                let utf8 = if is_same { text } else { CStr::from_ptr(utf8).to_bytes() };
                push_field(&mut self.row, at == 0, Some(utf8));
            }
        }
        self.row.push(b'\n');
        &self.row
    }
}

/// The bytes that a query of one `bytea` column gives, one row after the other.
pub struct Chunks {
    cursor: Cursor,
    chunk: Vec<u8>,
    given: usize,
}

impl Chunks {
    /// Begins to run the query.
    pub fn of(query: &CStr) -> Result<Self, Error> {
        let cursor = Cursor::open(query)?;
        if cursor.types()? != [pg_sys::BYTEAOID] {
            return Err(Error::ChunkType);
        }
        Ok(Self { cursor, chunk: Vec::new(), given: 0 })
    }

    fn next(&mut self) -> Result<bool, Error> {
        self.chunk.clear();
        self.given = 0;
        let chunk = &mut self.chunk;
        let fetched = self.cursor.fetch(1, |tuple, descriptor| {
            // SAFETY: a row of one bytea; a copy of it is freed with the memory of SPI.
            unsafe {
                let mut is_null = false;
                let datum = pg_sys::SPI_getbinval(tuple, descriptor, 1, &raw mut is_null);
                if !is_null {
                    let bytes = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
                    chunk.extend_from_slice(pgrx::varlena_to_byte_slice(bytes));
                }
            }
            Ok(())
        })?;
        Ok(fetched > 0)
    }
}

impl io::Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.chunk.len() {
            if !self.next().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let read = (&self.chunk[self.given..]).read(out)?;
        self.given += read;
        Ok(read)
    }
}
