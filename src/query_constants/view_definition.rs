//! Tells whether a view is being defined: its query is analysed like any other, but stored.

use crate::plan_cache;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_char;
use std::ptr::null;

/// The text of a running `CREATE VIEW`, and the subtransaction that runs it. An error leaves this behind but ends that
/// subtransaction, and subtransaction ids are not reused within a transaction.
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

/// A utility statement with this text begins. Pass the result to [`end`] after it has run.
///
/// # Safety
/// `statement` is PostgreSQL's planned utility statement.
pub unsafe fn begin(statement: *const pg_sys::PlannedStmt, text: *const c_char) -> Definition {
    // SAFETY: as promised by the caller: a node, whose tag says what it is.
    let is_view = unsafe { (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_ViewStmt };
    if is_view { RUNNING.replace(running(text)) } else { RUNNING.get() }
}

/// The statement has run.
pub fn end(outer: Definition) {
    RUNNING.set(outer);
}

/// Whether a query with this text is that of the view being defined. Queries that its analysis runs have another text.
pub fn is_running(text: *const c_char) -> bool {
    !text.is_null() && RUNNING.get() == running(text)
}

/// Whether the library was loaded during the current client message: the start of a view definition may have been missed.
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
