//! The rows of a query in the text format of `COPY`, in UTF-8.

use super::copy_text::push_field;
use super::cursor::Cursor;
use super::output_settings::OutputSettings;
use crate::datatype::{ValueOutput, ValuesShown, encoding, opened_of_other_keysets};
use crate::error::{Error, warn};
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::{CStr, c_char, c_int, c_long};
use std::ptr::null;
use std::thread::panicking;

/// The longest row in bytes: what `COPY FROM` can read, as what it allocates is below 1 GiB.
const MAX_ROW: usize = 0x3fff_ffff - 1;

/// Rows of a query, each with a newline.
pub struct Rows {
    cursor: Cursor,
    fields: Option<Fields>,
    /// For the text of a row. It lives as long as the transaction: these may be dropped later than what a function was called in.
    memory: pg_sys::MemoryContext,
    shown: ValuesShown,
    /// Rows so far, and bytes of their text.
    pub count: u64,
    pub bytes: u64,
}

impl Rows {
    /// Begins to run the query. Encrypted values are shown in this way.
    pub fn of(query: &CStr, shown: ValuesShown) -> Result<Self, Error> {
        let cursor = Cursor::open(query)?;
        opened_of_other_keysets();
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
        Ok(Self { cursor, fields: None, memory, shown, count: 0, bytes: 0 })
    }

    /// Says what was not like the others, after the last row.
    pub fn end(&self) {
        if opened_of_other_keysets() {
            let detail = "An import seals all values under the keyset of its session.";
            let hint = "SET prism_crypt.keyset and export the values of one keyset at a time.";
            warn("values of another keyset than the session's were exported", Some(detail), Some(hint));
        }
    }

    /// Passes at most so many rows to `see`, with how many there were and how many bytes. False at the end.
    pub fn next(
        &mut self,
        most: c_long,
        mut see: impl FnMut(&[u8], u64, u64) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let Self { cursor, fields, memory, shown, count, bytes } = self;
        let fetched = cursor.fetch(most, &mut |slot| {
            // SAFETY: a row of this cursor, whose columns stay the same.
            unsafe {
                let fields = match fields {
                    Some(fields) => fields,
                    None => fields.insert(Fields::of((*slot).tts_tupleDescriptor)),
                };
                let row = PgMemoryContexts::For(*memory).switch_to(|_| fields.row(slot, *shown))?;
                *count += 1;
                *bytes += row.len() as u64;
                see(row, *count, *bytes)?;
                MemoryContextReset(*memory);
            }
            Ok(())
        })?;
        Ok(fetched > 0)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // A transaction that ends frees it itself.
        // SAFETY: reads the state of the transaction, in which the memory was made.
        unsafe {
            if !panicking() && pg_sys::IsTransactionState() {
                pg_sys::MemoryContextDelete(self.memory);
            }
        }
    }
}

unsafe extern "C-unwind" {
    // pgrx's own bindings set up an error boundary at each call, which costs more than the call. One around a whole row is enough.
    fn slot_getsomeattrs_int(slot: *mut pg_sys::TupleTableSlot, count: c_int);
    fn OutputFunctionCall(function: *mut pg_sys::FmgrInfo, value: pg_sys::Datum) -> *mut c_char;
    fn pg_server_to_any(text: *const c_char, length: c_int, encoding: c_int) -> *mut c_char;
    // Raises nothing.
    fn MemoryContextReset(context: pg_sys::MemoryContext);
}

/// How each column is put out, and room for one row.
struct Fields {
    output: Vec<pg_sys::FmgrInfo>,
    settings: OutputSettings,
    /// Terminated, in UTF-8; null for null.
    texts: Vec<*const c_char>,
    row: Vec<u8>,
}

impl Fields {
    /// # Safety
    /// A descriptor of rows, inside a transaction.
    unsafe fn of(descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: as promised by the caller; catalog look-ups. What they find stays for the whole transaction.
        unsafe {
            let columns = pgrx::PgTupleDesc::from_pg_unchecked(descriptor);
            let settings = OutputSettings::of(columns.iter().map(|column| column.atttypid));
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
            let texts = vec![null(); output.len()];
            Self { output, settings, texts, row: Vec::new() }
        }
    }

    /// # Safety
    /// A row of that kind, and the current memory is one that is reset after it.
    unsafe fn row(&mut self, slot: *mut pg_sys::TupleTableSlot, shown: ValuesShown) -> Result<&[u8], Error> {
        self.row.clear();
        {
            let _shown = ValueOutput::begin(shown);
            let _settings = self.settings.begin();
            let (output, texts) = (&mut *self.output, &mut *self.texts);
            // SAFETY: as promised by the caller. Nothing inside has to be dropped.
            unsafe { pg_guard_ffi_boundary(|| put_out(slot, output, texts)) };
        }
        for (at, text) in self.texts.iter().enumerate() {
            // SAFETY: a terminated text in the current memory, or null.
            let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(*text) }.to_bytes());
            push_field(&mut self.row, at == 0, text)?;
        }
        self.row.push(b'\n');
        if self.row.len() > MAX_ROW {
            return Err(Error::RowTooLong);
        }
        Ok(&self.row)
    }
}

/// Not guarded.
///
/// # Safety
/// A row, and as many functions and places for texts as it has columns.
unsafe fn put_out(
    slot: *mut pg_sys::TupleTableSlot,
    output: &mut [pg_sys::FmgrInfo],
    texts: &mut [*const c_char],
) {
    let is_utf8 = encoding::server_is_utf8();
    // SAFETY: as promised by the caller; the slot's arrays have as many members as the row has columns.
    unsafe {
        let count = texts.len() as c_int;
        if c_int::from((*slot).tts_nvalid) < count {
            slot_getsomeattrs_int(slot, count);
        }
        for (at, (output, text)) in output.iter_mut().zip(texts).enumerate() {
            if *(*slot).tts_isnull.add(at) {
                *text = null();
                continue;
            }
            *text = OutputFunctionCall(output, *(*slot).tts_values.add(at));
            if !is_utf8 {
                let length = CStr::from_ptr(*text).count_bytes() as c_int;
                *text = pg_server_to_any(*text, length, pg_sys::pg_enc::PG_UTF8.cast_signed());
            }
        }
    }
}
