//! PostgreSQL's node trees: walkers, and safe access to lists and names. `list_nth()` reads past the end of a list that is too
//! short, and the names of dropped objects are null.

use pgrx::pg_sys;
use std::ffi::{CStr, c_char, c_int, c_void};

/// Visits a node and returns whether to end the walk.
pub type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    // pgrx binds these for some versions only, and with an error boundary at each node.
    /// Calls `walker` on the direct children of an expression.
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    /// The same for the expressions of a query.
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    /// Calls `walker` on the direct children of a node of a parse tree that is not analysed.
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "raw_expression_tree_walker_impl")]
    pub fn raw_expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    /// Raises an error if the stack is too deep.
    pub fn check_stack_depth();
}

/// What [`visit_all`] calls for each node.
pub type Visitor = unsafe fn(*mut pg_sys::Node, *mut c_void);

#[derive(Clone, Copy)]
struct Visit {
    visitor: Visitor,
    context: *mut c_void,
}

/// Visits a node, and all nodes below it, those of subqueries included: each before its children. Not guarded, and without anything to
/// drop: errors pass through as they were raised.
///
/// # Safety
/// `node` is a node of an analysed query; the visitor may be called with `context` and each of them.
pub unsafe fn visit_all(node: *mut pg_sys::Node, visitor: Visitor, context: *mut c_void) {
    let mut visit = Visit { visitor, context };
    // SAFETY: as promised by the caller; the walk ends before `visit` does.
    unsafe { visit_below(node, (&raw mut visit).cast()) };
}

unsafe extern "C-unwind" fn visit_below(node: *mut pg_sys::Node, visit: *mut c_void) -> bool {
    // SAFETY: `visit_all` passes what to call; the node's tag says what it is.
    unsafe {
        if node.is_null() {
            return false;
        }
        let Visit { visitor, context } = *visit.cast::<Visit>();
        visitor(node, context);
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            check_stack_depth();
            return query_tree_walker(node.cast(), visit_below, visit, 0);
        }
        expression_tree_walker(node, visit_below, visit)
    }
}

/// The number of members; a null list has none.
///
/// # Safety
/// `list` is null or a list.
pub unsafe fn length(list: *mut pg_sys::List) -> i32 {
    // SAFETY: as promised by the caller.
    if list.is_null() { 0 } else { unsafe { (*list).length } }
}

/// The member at `index` of a list of nodes; null if the list is too short.
///
/// # Safety
/// `list` is null or a list of pointers.
pub unsafe fn nth(list: *mut pg_sys::List, index: i32) -> *mut pg_sys::Node {
    // SAFETY: as promised by the caller; the index is inside the list.
    unsafe {
        if (0..length(list)).contains(&index) {
            pg_sys::list_nth(list, index).cast()
        } else {
            std::ptr::null_mut()
        }
    }
}

/// Whether a name from the catalogs is `wanted`.
///
/// # Safety
/// `name` is null or a terminated string.
pub unsafe fn has_name(name: *const c_char, wanted: &CStr) -> bool {
    // SAFETY: as promised by the caller.
    !name.is_null() && unsafe { CStr::from_ptr(name) } == wanted
}
