//! The statement that the client sent, as far as it is a utility statement.

use pgrx::pg_sys;
use std::ptr::null_mut;

/// The utility statement that the client sent and that is running, if it is one that matches; or null.
pub fn running_statement(matches: impl Fn(*mut pg_sys::Node) -> bool) -> *mut pg_sys::Node {
    // SAFETY: the portal that is running is null or whole; its statements are planned ones.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || (*portal).stmts.is_null() {
            return null_mut();
        }
        let statements = (*portal).stmts;
        (0..(*statements).length)
            // Not list_nth(), which pgrx calls behind an error boundary: this is asked for each value that is shown.
            .map(|at| (*(*statements).elements.add(at as usize)).ptr_value.cast::<pg_sys::PlannedStmt>())
            .map(|statement| (*statement).utilityStmt)
            .find(|statement| !statement.is_null() && matches(*statement))
            .unwrap_or(null_mut())
    }
}
