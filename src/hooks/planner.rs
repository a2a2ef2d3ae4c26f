//! `planner_hook`: refuses a query that orders by values, which may have come from a view or a rule by now, gives it
//! back the operators that the search_path hid, seals its constants before it is planned, and marks its plan if it holds any.

use crate::hygiene::client_text;
use crate::nodes::visit_all;
use crate::plan_cache;
use crate::query_constants;
use crate::result_type;
use crate::search::{anonymous_rows, explicit_order, hidden_equality};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

thread_local! {
    static NEXT: Cell<pg_sys::planner_hook_type> = const { Cell::new(None) };
}

unsafe extern "C-unwind" {
    // pgrx's own binding would catch errors and raise them again with less detail.
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

/// Not guarded by pgrx, and holds nothing to drop: errors pass through as PostgreSQL raised them.
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: everything is passed on as PostgreSQL gave it; a planner may change its query.
    unsafe {
        let before = plan_cache::constants_sealed();
        let announced = result_type::take_off(query);
        anonymous_rows::statement(query);
        visit_all(query.cast(), look_at, params.cast());
        let text = without_keys(query, text);
        let plan = match NEXT.get() {
            Some(next) => next(query, text, options, params),
            None => standard_planner(query, text, options, params),
        };
        if plan_cache::constants_sealed() != before {
            query_constants::mark_plan(plan);
        }
        if !announced.is_null() {
            result_type::convert(plan, announced);
        }
        plan
    }
}

/// The text as pg_stat_statements may keep it, if it counts planning: of a query that it does not know any more, it takes what it is given.
#[pg_guard]
unsafe extern "C-unwind" fn without_keys(query: *mut pg_sys::Query, text: *const c_char) -> *const c_char {
    // SAFETY: the query and its text, which is null or terminated; the name is terminated, and the value, if there is one, too.
    unsafe {
        let counts = pg_sys::GetConfigOption(c"pg_stat_statements.track_planning".as_ptr(), true, false);
        if text.is_null() || counts.is_null() || CStr::from_ptr(counts) != c"on" {
            return text;
        }
        client_text::without_keys(text, (*query).stmt_location, (*query).stmt_len, false)
    }
}

unsafe fn look_at(node: *mut pg_sys::Node, params: *mut c_void) {
    // SAFETY: a node of the query, which a planner may change; `plan` passes the parameters.
    unsafe {
        explicit_order::refuse(node);
        hidden_equality::restore(node);
        query_constants::seal_in(node, params.cast());
    }
}
