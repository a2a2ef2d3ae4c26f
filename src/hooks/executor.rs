//! `ExecutorStart_hook`: fetches what the query's indexes may need before it runs. A parallel worker shows the text of its
//! leader's client, which it receives with the plan, as it was sent. So keys are blanked in it first.
//!
//! `ExecutorRun_hook`: refuses to give a function what was announced to a client as text.
//!
//! `ExecutorFinish_hook`, `ExecutorEnd_hook`: between them, plans are described (`datatype::plan_output`); from the start on, if EXPLAIN runs
//! nothing.

use crate::datatype::plan_output;
use crate::hygiene::client_text;
use crate::result_type;
use crate::search::readiness;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{c_char, c_int};

thread_local! {
    static NEXT: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
    static NEXT_RUN: Cell<pg_sys::ExecutorRun_hook_type> = const { Cell::new(None) };
    static NEXT_FINISH: Cell<pg_sys::ExecutorFinish_hook_type> = const { Cell::new(None) };
    static NEXT_END: Cell<pg_sys::ExecutorEnd_hook_type> = const { Cell::new(None) };
}

unsafe extern "C-unwind" {
    // pgrx's own bindings would catch errors and raise them again with less detail.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
    #[cfg(not(feature = "pg18"))]
    fn standard_ExecutorRun(
        query: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        execute_once: bool,
    );
    #[cfg(feature = "pg18")]
    fn standard_ExecutorRun(
        query: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
    );
    fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
    fn standard_ExecutorEnd(query: *mut pg_sys::QueryDesc);
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
        NEXT_RUN.set(pg_sys::ExecutorRun_hook);
        pg_sys::ExecutorRun_hook = Some(executor_run);
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
        plan_output::set_described(false);
        if pg_sys::ParallelWorkerNumber >= 0 {
            look();
        }
        match NEXT.get() {
            Some(next) => next(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
        readiness::before_query(query, flags);
        plan_output::set_described(flags.cast_unsigned() & pg_sys::EXEC_FLAG_EXPLAIN_ONLY != 0);
    }
}

/// Not guarded, like `executor_start`.
#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    execute_once: bool,
) {
    // SAFETY: everything is passed on as PostgreSQL gave it.
    unsafe {
        result_type::require_client(query);
        match NEXT_RUN.get() {
            Some(next) => next(query, direction, count, execute_once),
            None => standard_ExecutorRun(query, direction, count, execute_once),
        }
    }
}

/// Not guarded, like `executor_start`.
#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: everything is passed on as PostgreSQL gave it.
    unsafe {
        result_type::require_client(query);
        match NEXT_RUN.get() {
            Some(next) => next(query, direction, count),
            None => standard_ExecutorRun(query, direction, count),
        }
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
    plan_output::set_described(true);
}

/// Not guarded, like `executor_start`.
unsafe extern "C-unwind" fn executor_end(query: *mut pg_sys::QueryDesc) {
    // SAFETY: everything is passed on as PostgreSQL gave it, but for the text, which stays valid meanwhile; the query is freed later.
    unsafe {
        let text = (*query).sourceText;
        if client_text::has_key() {
            (*query).sourceText = without_keys(query);
        }
        match NEXT_END.get() {
            Some(next) => next(query),
            None => standard_ExecutorEnd(query),
        }
        (*query).sourceText = text;
    }
    plan_output::set_described(false);
}

/// The text of a query that may have been given a key: pg_stat_statements stores it as it is, if it has lost what it knew of the
/// query when that began.
#[pg_guard]
unsafe extern "C-unwind" fn without_keys(query: *mut pg_sys::QueryDesc) -> *const c_char {
    // SAFETY: a query that has run, with its plan and terminated text.
    unsafe {
        let (text, plan) = ((*query).sourceText, (*query).plannedstmt);
        if text.is_null() || plan.is_null() {
            return text;
        }
        client_text::without_keys(text, (*plan).stmt_location, (*plan).stmt_len, false)
    }
}

#[pg_guard]
extern "C-unwind" fn look() {
    client_text::look(|_| ());
}
