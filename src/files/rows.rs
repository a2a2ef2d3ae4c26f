//! The rows of a query in the text format of `COPY`, in UTF-8.

use super::copy_text::push_field;
use super::cursor::Cursor;
use super::output_settings::OutputSettings;
use crate::datatype::{ValueOutput, ValuesShown, opened_of_other_keysets};
use crate::error::{Error, warn};
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::{CStr, c_long};
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
                pg_sys::MemoryContextReset(*memory);
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

/// How each column is put out, and room for one row.
struct Fields {
    output: Vec<pg_sys::FmgrInfo>,
    settings: OutputSettings,
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
            let output = columns
                .iter()
                .map(|column| {
                    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
                    pg_sys::getTypeOutputInfo(column.atttypid, &raw mut function, &raw mut is_varlena);
                    let mut info = pg_sys::FmgrInfo::default();
                    pg_sys::fmgr_info_cxt(function, &raw mut info, pg_sys::TopTransactionContext);
                    info
                })
                .collect();
            Self { output, settings, row: Vec::new() }
        }
    }

    /// # Safety
    /// A row of that kind, and the current memory is one that is reset after it.
    unsafe fn row(&mut self, slot: *mut pg_sys::TupleTableSlot, shown: ValuesShown) -> Result<&[u8], Error> {
        self.row.clear();
        let _shown = ValueOutput::begin(shown);
        let _settings = self.settings.begin();
        // SAFETY: as promised by the caller; the slot's arrays have as many members as the row has columns.
        unsafe {
            pg_sys::slot_getallattrs(slot);
            for (at, output) in self.output.iter_mut().enumerate() {
                if *(*slot).tts_isnull.add(at) {
                    push_field(&mut self.row, at == 0, None)?;
                    continue;
                }
                let text = pg_sys::OutputFunctionCall(output, *(*slot).tts_values.add(at));
                let text = CStr::from_ptr(text).to_bytes();
                let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
                let encoding = pg_sys::pg_enc::PG_UTF8.cast_signed();
                let utf8 = pg_sys::pg_server_to_any(text.as_ptr().cast(), length, encoding);
                let is_same = utf8.cast_const().cast() == text.as_ptr();
                let utf8 = if is_same { text } else { CStr::from_ptr(utf8).to_bytes() };
                push_field(&mut self.row, at == 0, Some(utf8))?;
            }
        }
        self.row.push(b'\n');
        if self.row.len() > MAX_ROW {
            return Err(Error::RowTooLong);
        }
        Ok(&self.row)
    }
}
