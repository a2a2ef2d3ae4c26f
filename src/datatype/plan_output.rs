//! Whether a plan is being described, by the client's EXPLAIN, or by auto_explain and its like. The constants of plans are ciphertext there, whatever
//! the session's output is: what auto_explain writes goes to the log.
//!
//! Plans of queries that run are described between the end of the run and their release. Nothing else is put out in between.

use super::portal::running_statement;
use crate::nodes::{has_name, length, nth};
use crate::plan_cache::statement_start;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// When the client's message arrived in which a query has run and was not released yet, and in which subtransaction; zeros if there is
    /// none. An error may keep a query from being released: it ends the message, or the subtransaction.
    static FINISHED_IN: Cell<(i64, u32)> = const { Cell::new((0, 0)) };
}

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary.
    fn GetCurrentSubTransactionId() -> u32;
}

fn here() -> (i64, u32) {
    // SAFETY: reads a variable of this session.
    (statement_start(), unsafe { GetCurrentSubTransactionId() })
}

/// Records that a query has run, and that another one begins or this one was released.
pub fn query_has_run(has_run: bool) {
    FINISHED_IN.set(if has_run { here() } else { (0, 0) });
}

/// Whether what is put out now describes a plan.
#[inline]
pub fn is_running() -> bool {
    let finished_in = FINISHED_IN.get();
    (finished_in.0 != 0 && finished_in == here()) || !running_statement(only_explains).is_null()
}

/// Whether a statement is an EXPLAIN that runs nothing, so that nothing but a plan is put out.
fn only_explains(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: a utility statement from the parser, whose tag says what it is.
    unsafe {
        pgrx::is_a(statement, pg_sys::NodeTag::T_ExplainStmt) && {
            let options = (*statement.cast::<pg_sys::ExplainStmt>()).options;
            let names =
                (0..length(options)).map(|index| (*nth(options, index).cast::<pg_sys::DefElem>()).defname);
            !names.into_iter().any(|name| has_name(name, c"analyze"))
        }
    }
}
