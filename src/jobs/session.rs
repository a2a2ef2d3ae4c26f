//! The session that works on a job.

use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    static SAW_UNREADABLE: Cell<bool> = const { Cell::new(false) };
}

/// Remembers that a scan met a value that can't be changed, so that such values are counted only if there are any.
pub fn note_unreadable() {
    SAW_UNREADABLE.set(true);
}

/// `prism_crypt._require_no_transaction_block(what text)`: raises 25001 if a procedure could not commit.
#[pg_extern(sql = false)]
fn _require_no_transaction_block(what: &str) -> SqlResult<()> {
    // SAFETY: both only read the state of this session; the SPI connection is the calling procedure's.
    let may_commit = unsafe { !pg_sys::IsTransactionBlock() && pg_sys::SPI_inside_nonatomic_context() };
    if may_commit { Ok(()) } else { Err(Error::TransactionBlock { what: what.to_owned() }.into()) }
}

/// `prism_crypt._saw_unreadable() → boolean`: whether a scan of this session met a value in a job's scope that can't be
/// changed, since the last call.
#[pg_extern(sql = false)]
fn _saw_unreadable() -> bool {
    SAW_UNREADABLE.replace(false)
}

/// The longest that a job waits for a lock, in milliseconds, whatever `lock_timeout` is.
const LONGEST_WAIT: i32 = 5000;

/// `prism_crypt._bound_waits()`: until the end of the transaction, limits each wait for a lock to five seconds. A shorter
/// `lock_timeout` stays.
#[pg_extern(sql = false)]
fn _bound_waits() {
    // SAFETY: reads a setting of this session, and sets it as `SET LOCAL` does; a failure raises an error.
    unsafe {
        let own = pg_sys::LockTimeout;
        if (1..=LONGEST_WAIT).contains(&own) {
            return;
        }
        pg_sys::set_config_option(
            c"lock_timeout".as_ptr(),
            c"5s".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// `prism_crypt._stripe(place tid, stripes integer) → integer`: which stripe of its block a row is in, out of `stripes`, by the
/// number of its line pointer.
#[pg_extern(sql = false)]
fn _stripe(place: pg_sys::ItemPointerData, stripes: i32) -> i32 {
    i32::from(place.ip_posid).checked_rem(stripes).unwrap_or(0)
}
