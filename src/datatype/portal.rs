//! The statement that the client sent, if it is a utility statement.

use pgrx::pg_sys;
use std::ptr::null_mut;

/// The running utility statement that the client sent, if it matches; otherwise null.
pub fn running_statement(matches: impl Fn(*mut pg_sys::Node) -> bool) -> *mut pg_sys::Node {
    // SAFETY: the active portal is null or valid; its statements are planned statements.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || (*portal).stmts.is_null() {
            return null_mut();
        }
        let statements = (*portal).stmts;
        (0..(*statements).length)
            // Not `list_nth()`, for which pgrx sets up an error boundary: this runs for each value that is shown.
            .map(|at| (*(*statements).elements.add(at as usize)).ptr_value.cast::<pg_sys::PlannedStmt>())
            .map(|statement| (*statement).utilityStmt)
            .find(|statement| !statement.is_null() && matches(*statement))
            .unwrap_or(null_mut())
    }
}
