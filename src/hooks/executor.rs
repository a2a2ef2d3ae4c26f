//! `ExecutorStart_hook`: fetches what the query's indexes may need before it runs. A parallel worker shows the text of its
//! leader's client, which it receives with the plan, as it was sent. So keys are blanked in it first.

use crate::hygiene::client_text;
use crate::search::readiness;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static NEXT: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

unsafe extern "C-unwind" {
    // pgrx's own binding would catch errors and raise them again with less detail.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
    }
}

/// Not guarded by pgrx, and holds nothing to drop: errors pass through as PostgreSQL raised them.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: everything is passed on as PostgreSQL gave it; a global that only this process writes.
    unsafe {
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

#[pg_guard]
extern "C-unwind" fn look() {
    client_text::look(|_| ());
}
