//! The rows of a query, as text in UTF-8.

use super::copy_text::push_field;
use crate::error::Error;
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::CStr;
use std::ptr::{null, null_mut};

/// So many rows are fetched at once.
const BATCH: i64 = 1000;

/// Passes each row of a query, in the text format of `COPY` with a newline, to `see`. How many rows there are. The query runs with the rights
/// of the current role, in a snapshot of its own.
///
/// # Safety
/// Inside a transaction, connected to SPI.
pub unsafe fn each_row(query: &CStr, mut see: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<u64, Error> {
    let mut count = 0;
    // SAFETY: a plan and a portal of this connection of SPI; what is not closed after an error, SPI closes.
    unsafe {
        let options = pg_sys::CURSOR_OPT_NO_SCROLL.cast_signed();
        let plan = pg_sys::SPI_prepare_cursor(query.as_ptr(), 0, null_mut(), options);
        if plan.is_null() {
            return Err(Error::Internal("a query could not be prepared"));
        }
        let portal = pg_sys::SPI_cursor_open(null(), plan, null_mut(), null(), false);
        let mut fields = Fields::of((*portal).tupDesc);
        let mut memory = PgMemoryContexts::new("prism_crypt export");
        loop {
            pgrx::check_for_interrupts!();
            pg_sys::SPI_cursor_fetch(portal, true, BATCH);
            let (table, fetched) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed);
            if fetched == 0 {
                break;
            }
            let tuples = std::slice::from_raw_parts((*table).vals, usize::try_from(fetched).unwrap_or(0));
            for tuple in tuples {
                let row = memory.switch_to(|_| fields.row(*tuple, (*table).tupdesc));
                see(row)?;
                memory.reset();
            }
            count += fetched;
            pg_sys::SPI_freetuptable(table);
        }
        pg_sys::SPI_cursor_close(portal);
        pg_sys::SPI_freeplan(plan);
    }
    Ok(count)
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
    /// The descriptor of a portal that is open.
    unsafe fn of(descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: as promised by the caller; catalog look-ups.
        unsafe {
            let columns = pgrx::PgTupleDesc::from_pg_unchecked(descriptor);
            let output: Vec<pg_sys::FmgrInfo> = columns
                .iter()
                .map(|column| {
                    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
                    pg_sys::getTypeOutputInfo(column.atttypid, &raw mut function, &raw mut is_varlena);
                    let mut info = pg_sys::FmgrInfo::default();
                    pg_sys::fmgr_info(function, &raw mut info);
                    info
                })
                .collect();
            let (values, nulls) = (vec![pg_sys::Datum::null(); output.len()], vec![false; output.len()]);
            Self { output, values, nulls, row: Vec::new() }
        }
    }

    /// # Safety
    /// A row of that portal, and the current memory is one that is reset after it.
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
                let utf8 = pg_sys::pg_server_to_any(
                    text.as_ptr().cast(),
                    length,
                    pg_sys::pg_enc::PG_UTF8.cast_signed(),
                );
                let utf8 = if utf8.cast_const().cast() == text.as_ptr() {
                    text
                } else {
                    CStr::from_ptr(utf8).to_bytes()
                };
                push_field(&mut self.row, at == 0, Some(utf8));
            }
        }
        self.row.push(b'\n');
        &self.row
    }
}
