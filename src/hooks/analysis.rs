//! `post_parse_analyze_hook`: a statement that orders by values is refused as soon as it was analysed, so that no view or function
//! is made of it; others get back the operators that the search_path hid, their sealed literals are marked, and their results are announced as text.

use crate::nodes::visit_all;
use crate::query_constants;
use crate::result_type;
use crate::search::{anonymous_rows, explicit_order, hidden_equality};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

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
            anonymous_rows::statement(query);
            visit_all(query.cast(), look_at, null_mut());
        }
        query_constants::mark_literals(query, (*state).p_sourcetext);
        if let Some(next) = NEXT.get() {
            next(state, query, jumble);
        }
        result_type::announce(query, (*state).p_sourcetext);
    }
}

unsafe fn look_at(node: *mut pg_sys::Node, _context: *mut c_void) {
    // SAFETY: a node of the query, which PostgreSQL lets the hook change.
    unsafe {
        explicit_order::refuse(node);
        hidden_equality::restore(node);
    }
}
