//! The search tag of the constant that a query compares each row with. It is kept with the call, so that a scan asks the keyring once. The tag of a
//! value never changes as long as its generation doesn't, and tags of different generations are not compared (`compare`).

use crate::keyring::search_tags;
use crate::plan_cache::statement_start;
use pgrx::pg_sys;
use prism_envelope::SearchTag;
use std::ffi::c_void;

/// The longest constant that is kept, in bytes: an envelope of a text of about 200.
const MAX_LEN: usize = 256;

/// What `fn_extra` of `=` points to.
#[repr(C)]
struct Known {
    tag: SearchTag,
    /// When the client's message arrived: PostgreSQL keeps some calls for the whole session, in which keys may go.
    message: i64,
    length: usize,
    bytes: [u8; MAX_LEN],
}

/// The tag of an envelope without one, if it was made recently: this call's, or one that the keyring remembers. The caller has checked that the
/// role may search.
///
/// # Safety
/// The running call of `=` or `<>`. The caller holds nothing that must be dropped.
#[inline(always)]
pub unsafe fn known_tag(fcinfo: pg_sys::FunctionCallInfo, constant: &[u8]) -> Option<SearchTag> {
    // SAFETY: as promised by the caller: PostgreSQL leaves `fn_extra` to the function, and only `remember` sets it.
    unsafe {
        let function = (*fcinfo).flinfo;
        if function.is_null() {
            return None;
        }
        if let Some(known) = (*function).fn_extra.cast::<Known>().as_ref()
            && known.bytes.get(..known.length) == Some(constant)
            && known.message == statement_start()
        {
            return Some(known.tag);
        }
        let tag = search_tags::known_tag(constant).ok()??;
        remember(function, constant, tag);
        Some(tag)
    }
}

/// # Safety
/// As for [`known_tag`].
#[inline(never)]
unsafe fn remember(function: *mut pg_sys::FmgrInfo, constant: &[u8], tag: SearchTag) {
    unsafe extern "C-unwind" {
        // pgrx's own binding sets up an error boundary.
        fn MemoryContextAllocZero(context: pg_sys::MemoryContext, size: usize) -> *mut c_void;
    }
    if constant.len() > MAX_LEN {
        return;
    }
    // SAFETY: as promised by the caller; the memory lives as long as the call's own information.
    unsafe {
        if (*function).fn_extra.is_null() {
            (*function).fn_extra = MemoryContextAllocZero((*function).fn_mcxt, size_of::<Known>());
        }
        let known = (*function).fn_extra.cast::<Known>();
        (*known).tag = tag;
        (*known).message = statement_start();
        (*known).length = constant.len();
        (*known).bytes.as_mut_ptr().copy_from_nonoverlapping(constant.as_ptr(), constant.len());
    }
}
