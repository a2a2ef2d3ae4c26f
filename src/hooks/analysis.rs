//! `post_parse_analyze_hook`: a statement that orders by values is refused as soon as it was analysed, so that no view or function
//! is made of it; the sealed literals of others are marked.

use crate::query_constants;
use crate::search::explicit_order;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    static NEXT: Cell<pg_sys::post_parse_analyze_hook_type> = const { Cell::new(None) };
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::post_parse_analyze_hook);
        pg_sys::post_parse_analyze_hook = Some(analyzed);
    }
}

/// Not guarded by pgrx, and holds nothing to drop: errors pass through as PostgreSQL raised them.
unsafe extern "C-unwind" fn analyzed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: everything is passed on as PostgreSQL gave it; the hook may change the query.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_UTILITY {
            explicit_order::refuse_in(query);
        }
        query_constants::mark_literals(query, (*state).p_sourcetext);
        if let Some(next) = NEXT.get() {
            next(state, query, jumble);
        }
    }
}
