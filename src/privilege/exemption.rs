//! Where values are compared in indexes by a role that may not search, and nobody learns the answer.

use crate::interrupts;
use pgrx::pg_sys;
use std::cell::Cell;

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary, and this is asked for each comparison.
    fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
}

thread_local! {
    /// The subtransaction that builds an index for us. Numbers of them are given once in a transaction, so one that an error
    /// left behind is never met again in it; and a build never outlives its call.
    static BUILDING: Cell<Option<pg_sys::SubTransactionId>> = const { Cell::new(None) };
}

/// For as long as it lives, the right to search is not asked for: an index on plain columns is being built for one of our own
/// functions, which runs for somebody who may change keys. Nothing else than comparisons runs in it.
pub struct Exemption(());

impl Exemption {
    /// Begins here.
    pub fn begin() -> Self {
        // SAFETY: reads a variable of this session.
        BUILDING.set(Some(unsafe { GetCurrentSubTransactionId() }));
        Self(())
    }
}

impl Drop for Exemption {
    fn drop(&mut self) {
        BUILDING.set(None);
    }
}

/// Whether there is an exemption now.
#[cold]
pub fn holds() -> bool {
    // SAFETY: reads a variable of this session.
    let is_build =
        || BUILDING.get().is_some_and(|building| building == unsafe { GetCurrentSubTransactionId() });
    interrupts::are_held_off() && is_vacuum() || is_build()
}

/// Whether VACUUM looks for a page in an index, in the name of the table's owner. Nobody learns what it finds, and it must not
/// fail for want of a right. To be asked while interrupts are held off: then no function of the owner runs.
fn is_vacuum() -> bool {
    // SAFETY: what this process is doing is null or shown in its own entry, unless track_activities is off.
    unsafe {
        let entry = pg_sys::MyBEEntry;
        let vacuum = pg_sys::ProgressCommandType::PROGRESS_COMMAND_VACUUM;
        pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
            || !entry.is_null() && (*entry).st_progress_command == vacuum
    }
}
