//! What `pg_stat_progress_copy` and `prism_crypt.progress` show of an export or import while it runs.

use pgrx::pg_sys;
use std::ffi::c_int;

/// "PENC". Says that a session's `COPY` is one of ours; `sql/files/progress.sql` looks for it.
const MARK: i64 = 0x5045_4E43;
/// Parameters that `COPY` leaves alone, of the twenty that a command has, counted from 0.
const MARK_AT: u32 = 19;
const BEGAN_AT: u32 = 18;

/// Rows after which it is shown how many they are.
const EVERY: u64 = 100;

/// An export, shown until this is dropped. After an error PostgreSQL does that itself.
pub struct Progress;

impl Progress {
    /// Of this relation, or of a query, if it is `InvalidOid`.
    pub fn of_export(relation: pg_sys::Oid) -> Self {
        // SAFETY: writes what the session shows of itself.
        unsafe {
            pg_sys::pgstat_progress_start_command(
                pg_sys::ProgressCommandType::PROGRESS_COMMAND_COPY,
                relation,
            );
        }
        set(pg_sys::PROGRESS_COPY_COMMAND, pg_sys::PROGRESS_COPY_COMMAND_TO.into());
        set(pg_sys::PROGRESS_COPY_TYPE, pg_sys::PROGRESS_COPY_TYPE_CALLBACK.into());
        mark();
        Self
    }

    /// How much is done; shown now and then.
    pub fn update(&self, rows: u64, bytes: u64) {
        if !rows.is_multiple_of(EVERY) {
            return;
        }
        set(pg_sys::PROGRESS_COPY_TUPLES_PROCESSED, rows.cast_signed());
        set(pg_sys::PROGRESS_COPY_BYTES_PROCESSED, bytes.cast_signed());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::pgstat_progress_end_command() }
    }
}

/// Says of the `COPY FROM` that has begun that it is an import, and how many bytes there are, if that is known.
pub fn mark_import(bytes: Option<u64>) {
    if let Some(bytes) = bytes {
        set(pg_sys::PROGRESS_COPY_BYTES_TOTAL, bytes.cast_signed());
    }
    mark();
}

fn mark() {
    // SAFETY: reads the clock.
    set(BEGAN_AT, unsafe { pg_sys::GetCurrentTimestamp() });
    set(MARK_AT, MARK);
}

fn set(parameter: u32, value: i64) {
    // SAFETY: writes what the session shows of itself; nothing where it shows nothing. All parameters are below twenty.
    unsafe { pg_sys::pgstat_progress_update_param(parameter as c_int, value) }
}
