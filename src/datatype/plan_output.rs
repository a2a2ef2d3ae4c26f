//! Whether a plan is being described, by EXPLAIN, or by auto_explain and its like. The constants of plans are ciphertext there, whatever
//! the session's output is: what auto_explain writes goes to the log.
//!
//! A plan is described while the executor has it and does not run it: between the end of a run and the plan's release or, if EXPLAIN runs
//! nothing, between start and release. Nothing else is put out in between.

use super::portal::running_statement;
use crate::nodes::{has_name, length, nth};
use crate::plan_cache::statement_start;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// When the client's message arrived in which a plan may be described, and in which subtransaction; zeros if none may. An error may
    /// keep a plan from being released: it ends the message, or the subtransaction.
    static DESCRIBED_IN: Cell<(i64, u32)> = const { Cell::new((0, 0)) };
}

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary.
    fn GetCurrentSubTransactionId() -> u32;
}

/// Called when the library is loaded, perhaps by an EXPLAIN whose start was not seen.
pub fn init() {
    set_described(!running_statement(only_explains).is_null());
}

/// Records whether the executor now has a plan that it does not run.
pub fn set_described(is_described: bool) {
    DESCRIBED_IN.set(if is_described { here() } else { (0, 0) });
}

/// Whether what is put out now describes a plan.
#[inline]
pub fn is_running() -> bool {
    let described_in = DESCRIBED_IN.get();
    described_in.0 != 0 && described_in == here()
}

fn here() -> (i64, u32) {
    // SAFETY: reads a variable of this session.
    (statement_start(), unsafe { GetCurrentSubTransactionId() })
}

/// Whether a statement is an EXPLAIN that runs nothing. PostgreSQL has checked its options.
fn only_explains(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: a utility statement from the parser, whose tag says what it is; its options are `DefElem` nodes.
    unsafe {
        pgrx::is_a(statement, pg_sys::NodeTag::T_ExplainStmt) && {
            let options = (*statement.cast::<pg_sys::ExplainStmt>()).options;
            let options = (0..length(options)).map(|index| nth(options, index).cast::<pg_sys::DefElem>());
            // The last one counts.
            let analyze = options.rev().find(|option| has_name((**option).defname, c"analyze"));
            analyze.is_none_or(|option| !pg_sys::defGetBoolean(option))
        }
    }
}
