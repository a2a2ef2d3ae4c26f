//! PostgreSQL's lists and names, read so that any of them will do: `list_nth()` reads past the end of a list that is too
//! short, and names of objects that are gone are null.

use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

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
