//! Who may see what, where there is no function call that PostgreSQL would check: in the output and input functions.
//!
//! A right is the EXECUTE privilege on one function. Answers are kept for as long as the catalogs don't change.

use crate::error::Error;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::CStr;

/// A right that is asked for inside of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// EXECUTE on the `decrypt_field` that stands in the schema of this output function and takes its type.
    Decrypt(pg_sys::Oid),
    /// EXECUTE on `mask_field`, likewise.
    Mask(pg_sys::Oid),
    /// EXECUTE on the `blind_index` that stands in the schema of this function.
    Search(pg_sys::Oid),
    /// EXECUTE on `prism_crypt.load_envelope(text)`.
    Load,
}

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary at each call, which costs more than the call.
    #[link_name = "GetUserIdAndSecContext"]
    fn role_and_context(role: *mut pg_sys::Oid, context: *mut i32);
}

/// The current role, and whether PostgreSQL took it on to check a foreign key (`SECURITY_NOFORCE_RLS`, which it sets for
/// nothing else).
#[inline]
fn current_role() -> (pg_sys::Oid, bool) {
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads two variables of this session.
    unsafe { role_and_context(&mut role, &mut context) };
    (role, context.cast_unsigned() & pg_sys::SECURITY_NOFORCE_RLS != 0)
}

impl Right {
    /// Rights of the same kind are of the same function: the extension has but one schema.
    fn kind(self) -> usize {
        match self {
            Self::Decrypt(_) => 0,
            Self::Mask(_) => 1,
            Self::Search(_) => 2,
            Self::Load => 3,
        }
    }
}

/// Role, and whether it has the right; by kind of right.
type Answers = [Cell<Option<(pg_sys::Oid, bool)>>; 4];

thread_local! {
    static LAST_ANSWERS: Answers = const { [const { Cell::new(None) }; 4] };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the current role has a right.
#[inline]
pub fn may(right: Right) -> bool {
    may_role(right, current_role().0)
}

fn may_role(right: Right, role: pg_sys::Oid) -> bool {
    match LAST_ANSWERS.with(|answers| answers[right.kind()].get()) {
        Some((asked, answer)) if asked == role => answer,
        _ => {
            listen();
            // SAFETY: catalog look-ups inside a transaction.
            let answer = unsafe { may_execute(function_of(right), role) };
            LAST_ANSWERS.with(|answers| answers[right.kind()].set(Some((role, answer))));
            answer
        }
    }
}

/// Whether the current role was found to have the right to search, by itself and not to check a foreign key. Looks nothing
/// up.
#[inline]
pub fn is_known_to_search() -> bool {
    let kind = Right::Search(pg_sys::InvalidOid).kind();
    let (role, is_referential) = current_role();
    !is_referential && LAST_ANSWERS.with(|answers| answers[kind].get()) == Some((role, true))
}

/// Raises an error unless the current role may search: have values opened to be compared, and search tags made. PostgreSQL
/// asks for EXECUTE where a statement names a function or operator, but not where `=` is called for an index, an array or a
/// row. A foreign key is checked in the name of the table's owner: then whoever made the change must have the right too.
///
/// `fcinfo` is the running call, of a function of this extension.
#[inline]
pub fn require_search(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let right = Right::Search(function_oid(fcinfo));
    let (role, is_referential) = current_role();
    // SAFETY: reads a variable of this session.
    let is_permitted =
        may_role(right, role) && (!is_referential || may_role(right, unsafe { pg_sys::GetOuterUserId() }));
    if is_permitted { Ok(()) } else { Err(Error::SearchDenied) }
}

/// The oid of the function that is running.
pub fn function_oid(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Oid {
    // SAFETY: PostgreSQL passes a valid call; `flinfo` is null only in direct calls, which nobody makes.
    unsafe {
        let function = (*fcinfo).flinfo;
        if function.is_null() { pg_sys::InvalidOid } else { (*function).fn_oid }
    }
}

/// Whether this process applies changes that another server replicates.
pub fn is_logical_worker() -> bool {
    // SAFETY: tells what kind of process this is.
    unsafe { pg_sys::IsLogicalWorker() }
}

/// `prism_crypt._is_logical_worker() → boolean`
#[pg_extern(sql = false)]
fn _is_logical_worker() -> bool {
    is_logical_worker()
}

/// Whether this process sends the log to another server.
pub fn is_walsender() -> bool {
    // SAFETY: a global that is set when the process starts.
    unsafe { pg_sys::am_walsender }
}

/// The function whose EXECUTE privilege is the right; an invalid oid where there is none.
///
/// # Safety
/// Inside a transaction.
unsafe fn function_of(right: Right) -> pg_sys::Oid {
    // SAFETY: catalog look-ups; types and schema of an output function come from the catalogs themselves.
    unsafe {
        match right {
            Right::Decrypt(output_function) => beside(output_function, c"decrypt_field"),
            Right::Mask(output_function) => beside(output_function, c"mask_field"),
            Right::Search(function) => {
                let types = [pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::INT4OID];
                find_function(pg_sys::get_func_namespace(function), c"blind_index", &types)
            }
            Right::Load => {
                let schema = pg_sys::get_namespace_oid(c"prism_crypt".as_ptr(), true);
                find_function(schema, c"load_envelope", &[pg_sys::TEXTOID])
            }
        }
    }
}

/// The function of this name in the schema of an output function, for the type that it puts out and a context.
///
/// # Safety
/// Inside a transaction.
unsafe fn beside(output_function: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: catalog look-ups.
    unsafe {
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        pg_sys::get_func_signature(output_function, &mut types, &mut count);
        if count < 1 {
            return pg_sys::InvalidOid;
        }
        find_function(pg_sys::get_func_namespace(output_function), name, &[*types, pg_sys::TEXTOID])
    }
}

/// Not `LookupFuncName`, which asks whether the role may use the schema: only the function counts here.
///
/// # Safety
/// Inside a transaction.
unsafe fn find_function(schema: pg_sys::Oid, name: &CStr, types: &[pg_sys::Oid]) -> pg_sys::Oid {
    // SAFETY: the keys are of the types that this cache has: name, oidvector, oid.
    unsafe {
        let types = pg_sys::buildoidvector(types.as_ptr(), types.len() as i32);
        let found = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(types),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
        );
        pg_sys::pfree(types.cast());
        found
    }
}

/// # Safety
/// Inside a transaction.
unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    if function == pg_sys::InvalidOid {
        return false;
    }
    let mode = pg_sys::AclMode::from(pg_sys::ACL_EXECUTE);
    // SAFETY: a catalog look-up.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_proc_aclcheck(function, role, mode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, mode);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Forgets the answer when a function, a role or a membership changes.
fn listen() {
    if LISTENING.replace(true) {
        return;
    }
    use pg_sys::SysCacheIdentifier::{AUTHMEMMEMROLE, AUTHOID, PROCOID};
    for cache in [PROCOID, AUTHOID, AUTHMEMMEMROLE] {
        // SAFETY: registered once a backend, and the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget), pg_sys::Datum::null()) }
    }
}

/// Not guarded: it calls nothing that can panic.
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    LAST_ANSWERS.with(|answers| answers.iter().for_each(|answer| answer.set(None)));
}
