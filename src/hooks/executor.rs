//! `ExecutorStart_hook`: fetches what the query's indexes may need before it runs. A parallel worker shows the text of its
//! leader's client, which it receives with the plan, as it was sent. So keys are blanked in it first.
//!
//! `ExecutorFinish_hook`, `ExecutorEnd_hook`: between them, plans are described for the log (`datatype::plan_output`).

use crate::datatype::plan_output;
use crate::hygiene::client_text;
use crate::search::readiness;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static NEXT: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
    static NEXT_FINISH: Cell<pg_sys::ExecutorFinish_hook_type> = const { Cell::new(None) };
    static NEXT_END: Cell<pg_sys::ExecutorEnd_hook_type> = const { Cell::new(None) };
}

unsafe extern "C-unwind" {
    // pgrx's own bindings would catch errors and raise them again with less detail.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
    fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
    fn standard_ExecutorEnd(query: *mut pg_sys::QueryDesc);
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
        NEXT_FINISH.set(pg_sys::ExecutorFinish_hook);
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        NEXT_END.set(pg_sys::ExecutorEnd_hook);
        pg_sys::ExecutorEnd_hook = Some(executor_end);
    }
}

/// Not guarded by pgrx, and holds nothing to drop: errors pass through as PostgreSQL raised them.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: everything is passed on as PostgreSQL gave it; a global that only this process writes.
    unsafe {
        plan_output::query_has_run(false);
        if pg_sys::ParallelWorkerNumber >= 0 {
            look();
        }
        match NEXT.get() {
            Some(next) => next(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
        readiness::before_query(query, flags);
    }
}

/// Not guarded, like `executor_start`.
unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: everything is passed on as PostgreSQL gave it.
    unsafe {
        match NEXT_FINISH.get() {
            Some(next) => next(query),
            None => standard_ExecutorFinish(query),
        }
    }
    plan_output::query_has_run(true);
}

/// Not guarded, like `executor_start`.
unsafe extern "C-unwind" fn executor_end(query: *mut pg_sys::QueryDesc) {
    // SAFETY: everything is passed on as PostgreSQL gave it.
    unsafe {
        match NEXT_END.get() {
            Some(next) => next(query),
            None => standard_ExecutorEnd(query),
        }
    }
    plan_output::query_has_run(false);
}

#[pg_guard]
extern "C-unwind" fn look() {
    client_text::look(|_| ());
}
