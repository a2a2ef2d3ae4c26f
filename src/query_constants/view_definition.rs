//! Tells when a view is being defined: its query is analysed like any other one, but stored.

use crate::plan_cache;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_char;
use std::ptr::null;

/// The text of a `CREATE VIEW` that is running, and the subtransaction that runs it. An error leaves it behind, and ends that
/// subtransaction: the numbers of them are given once in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    text: *const c_char,
    transaction: i64,
    subtransaction: pg_sys::SubTransactionId,
}

const NONE: Definition = Definition { text: null(), transaction: 0, subtransaction: 0 };

thread_local! {
    static RUNNING: Cell<Definition> = const { Cell::new(NONE) };
    static LOADED_AT: Cell<i64> = const { Cell::new(0) };
}

unsafe extern "C-unwind" {
    // pgrx's own bindings set up an error boundary at each call, which costs more than the call.
    fn GetCurrentTransactionStartTimestamp() -> i64;
    fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
}

/// Called while the library is loaded.
pub fn init() {
    LOADED_AT.set(plan_cache::statement_start());
}

/// A utility statement with this text begins. Gives what [`end`] is to be given when it has been run.
///
/// # Safety
/// PostgreSQL's planned utility statement.
pub unsafe fn begin(statement: *const pg_sys::PlannedStmt, text: *const c_char) -> Definition {
    // SAFETY: as promised by the caller: a node, whose tag says what it is.
    let is_view = unsafe { (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_ViewStmt };
    if is_view { RUNNING.replace(running(text)) } else { RUNNING.get() }
}

/// It has been run.
pub fn end(outer: Definition) {
    RUNNING.set(outer);
}

/// Whether a query with this text is that of a view which is being defined. What its analysis runs has another text.
pub fn is_running(text: *const c_char) -> bool {
    !text.is_null() && RUNNING.get() == running(text)
}

/// Whether the library was loaded while the message of the client that is being answered was: a view may be defined
/// without our having seen it begin.
pub fn are_unknown() -> bool {
    LOADED_AT.get() == plan_cache::statement_start()
}

fn running(text: *const c_char) -> Definition {
    // SAFETY: both read variables of this session.
    unsafe {
        let (transaction, subtransaction) =
            (GetCurrentTransactionStartTimestamp(), GetCurrentSubTransactionId());
        Definition { text, transaction, subtransaction }
    }
}
