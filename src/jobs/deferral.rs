//! What a batch has deferred is done before its commit, behind which no error could be caught any more. A trigger that is run
//! then must not defer anew.

use crate::error::Error;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    /// When the transaction began that may not defer constraints any more.
    static COMPLETED: Cell<Option<pg_sys::TimestampTz>> = const { Cell::new(None) };
}

/// `prism_crypt._end_deferral()`: no statement of this transaction may make constraints DEFERRED any more.
#[pg_extern(sql = false)]
fn _end_deferral() {
    // SAFETY: reads a variable of this session.
    COMPLETED.set(Some(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }));
}

/// An error for `SET CONSTRAINTS … DEFERRED` where a batch ends.
///
/// # Safety
/// `node` is a utility statement.
pub unsafe fn check(node: *mut pg_sys::Node) -> Result<(), Error> {
    let Some(began) = COMPLETED.get() else { return Ok(()) };
    // SAFETY: the node is of the type that its tag says; the other reads a variable of this session.
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
