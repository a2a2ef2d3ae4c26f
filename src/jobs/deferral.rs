//! What the statements of a batch deferred runs before its commit, where errors can still be caught. A trigger that runs then
//! must not defer anything again.

use crate::error::Error;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    /// The start time of the transaction that may no longer defer constraints.
    static COMPLETED: Cell<Option<pg_sys::TimestampTz>> = const { Cell::new(None) };
}

/// `prism_crypt._end_deferral()`: from now on, no statement of this transaction may make constraints DEFERRED.
#[pg_extern(sql = false)]
fn _end_deferral() {
    // SAFETY: reads a variable of this session.
    COMPLETED.set(Some(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }));
}

/// Refuses `SET CONSTRAINTS … DEFERRED` at the end of a batch.
///
/// # Safety
/// `node` is a utility statement.
pub unsafe fn check(node: *mut pg_sys::Node) -> Result<(), Error> {
    let Some(began) = COMPLETED.get() else { return Ok(()) };
    // SAFETY: the node's tag gives its type; the start time is a variable of this session.
    unsafe {
        if began != pg_sys::GetCurrentTransactionStartTimestamp() {
            COMPLETED.set(None);
            return Ok(());
        }
        let defers = pgrx::is_a(node, pg_sys::NodeTag::T_ConstraintsSetStmt)
            && (*node.cast::<pg_sys::ConstraintsSetStmt>()).deferred;
        if defers { Err(Error::DeferralOver) } else { Ok(()) }
    }
}
