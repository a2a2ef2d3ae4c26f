//! Cases where a role without the right to search compares values in indexes, and nobody learns the result.

use crate::interrupts;
use pgrx::pg_sys;
use std::cell::Cell;

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary, and this is called for each comparison.
    fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
}

thread_local! {
    /// The subtransaction that builds an index for us. A transaction gives each number once, so it never meets a number
    /// again that an error left behind; and a build never outlives its call.
    static BUILDING: Cell<Option<pg_sys::SubTransactionId>> = const { Cell::new(None) };
}

/// While this lives, the right to search is not checked: an index on plain columns is being built for one of our own
/// functions, on behalf of somebody who may change keys. Only comparisons run in it.
pub struct Exemption(());

impl Exemption {
    /// Begins the exemption.
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

/// Whether VACUUM is looking for a page in an index, as the table's owner. Nobody learns what it finds, and it must not
/// fail for lack of a right. Call this while interrupts are held off: then no function of the owner runs.
fn is_vacuum() -> bool {
    // SAFETY: `MyBEEntry` is null or this process's own entry. It has no command if track_activities is off.
    unsafe {
        let entry = pg_sys::MyBEEntry;
        let vacuum = pg_sys::ProgressCommandType::PROGRESS_COMMAND_VACUUM;
        pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
            || !entry.is_null() && (*entry).st_progress_command == vacuum
    }
}
