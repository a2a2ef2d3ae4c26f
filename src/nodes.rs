//! PostgreSQL's trees of nodes: walks over them, and lists and names, read so that any of them will do: `list_nth()` reads past
//! the end of a list that is too short, and names of objects that are gone are null.

use pgrx::pg_sys;
use std::ffi::{CStr, c_char, c_int, c_void};

/// Looks at a node, and tells whether the walk is to end.
pub type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    // pgrx has them for some versions only, and with an error boundary at each node.
    /// Has `walker` look at what an expression is made of, one step deep.
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
    /// Raises an error where the stack is too deep.
    pub fn check_stack_depth();
}

/// The number of members; a null list has none.
///
/// # Safety
/// `list` is null or a list.
pub unsafe fn length(list: *mut pg_sys::List) -> i32 {
    // SAFETY: as promised by the caller.
    if list.is_null() { 0 } else { unsafe { (*list).length } }
}

/// A member of a list of nodes; null where it has not so many.
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

/// Whether a name from the catalogs is this one.
///
/// # Safety
/// `name` is null or a terminated string.
pub unsafe fn has_name(name: *const c_char, wanted: &CStr) -> bool {
    // SAFETY: as promised by the caller.
    !name.is_null() && unsafe { CStr::from_ptr(name) } == wanted
}
