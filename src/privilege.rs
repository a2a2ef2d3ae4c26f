//! Who may see what, where there is no function call that PostgreSQL would check: in the output and input functions.
//!
//! A right is the EXECUTE privilege on one function. Answers are kept for as long as the catalogs don't change.

use crate::error::Error;
use crate::identity::{Identity, outer_role};
use crate::interrupts;
use crate::search::index_build;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
    /// EXECUTE on `prism_crypt.rotate_key(text, text)`.
    AdministerKeys,
}

const KINDS: usize = 5;

impl Right {
    /// Rights of the same kind are of the same function: the extension has but one schema.
    #[inline]
    fn kind(self) -> usize {
        match self {
            Self::Decrypt(_) => 0,
            Self::Mask(_) => 1,
            Self::Search(_) => 2,
            Self::Load => 3,
            Self::AdministerKeys => 4,
        }
    }
}

/// Whether a role has a right.
#[derive(Clone, Copy)]
struct Answer {
    role: pg_sys::Oid,
    is_granted: bool,
    /// Of the catalogs, when the look-up began.
    as_of: u32,
}

impl Answer {
    #[inline]
    fn is_current(self) -> bool {
        self.as_of == CATALOGS.get()
    }
}

/// As many roles as one session may have asked for before the earlier answers are forgotten.
const MAX_ANSWERS: usize = 256;

thread_local! {
    /// By kind of right.
    static LAST: [Cell<Option<Answer>>; KINDS] = const { [const { Cell::new(None) }; KINDS] };
    /// By kind of right and role.
    static ALL: RefCell<BTreeMap<(usize, u32), Answer>> = const { RefCell::new(BTreeMap::new()) };
    /// Grows whenever a function, a role or a membership may have changed. A look-up may itself hear of a change, and then its
    /// answer is one of before.
    static CATALOGS: Cell<u32> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the current role has a right.
#[inline]
pub fn may(right: Right) -> bool {
    may_role(right, Identity::current().role)
}

/// Whether a role has a right.
#[inline]
pub fn may_role(right: Right, role: pg_sys::Oid) -> bool {
    known_of(right, role).unwrap_or(false)
}

/// `None` where that is not known, and nothing can be looked up because interrupts are held off. Then the last answer will
/// do, even if it is one of before.
#[inline]
fn known_of(right: Right, role: pg_sys::Oid) -> Option<bool> {
    match LAST.with(|last| last[right.kind()].get()) {
        Some(last) if last.role == role && last.is_current() => Some(last.is_granted),
        _ => known_of_otherwise(right, role),
    }
}

#[cold]
#[inline(never)]
fn known_of_otherwise(right: Right, role: pg_sys::Oid) -> Option<bool> {
    let key = (right.kind(), role.to_u32());
    let known = ALL.with_borrow(|all| all.get(&key).copied());
    let answer = match known {
        Some(known) if known.is_current() || interrupts::are_held_off() => known,
        None if interrupts::are_held_off() => return None,
        _ => {
            listen();
            let as_of = CATALOGS.get();
            // SAFETY: catalog look-ups inside a transaction.
            let is_granted = unsafe { may_execute(function_of(right), role) };
            let answer = Answer { role, is_granted, as_of };
            ALL.with_borrow_mut(|all| {
                if all.len() >= MAX_ANSWERS {
                    all.clear();
                }
                all.insert(key, answer);
            });
            answer
        }
    };
    LAST.with(|last| last[right.kind()].set(Some(answer)));
    Some(answer.is_granted)
}

/// Whether the current role was found to have the right to search, by itself and not to check a foreign key. Looks nothing
/// up.
#[inline]
pub fn is_known_to_search() -> bool {
    let identity = Identity::current();
    !identity.is_referential() && is_search_known_of(identity.role) == Some(true)
}

#[inline]
fn is_search_known_of(role: pg_sys::Oid) -> Option<bool> {
    let kind = Right::Search(pg_sys::InvalidOid).kind();
    let last = LAST.with(|last| last[kind].get());
    last.filter(|last| last.role == role && last.is_current()).map(|last| last.is_granted)
}

/// Whether [`prepare_search`] has nothing to do.
#[inline]
pub fn is_search_prepared() -> bool {
    let role = Identity::current().role;
    is_search_known_of(role).is_some() && role == outer_role()
}

/// Looks up what [`require_search`] may ask while nothing can be looked up.
pub fn prepare_search() {
    if is_search_prepared() || interrupts::are_held_off() {
        return;
    }
    // SAFETY: catalog look-ups inside a transaction.
    let right = Right::Search(unsafe { find_blind_index(extension_schema()) });
    known_of(right, outer_role());
    known_of(right, Identity::current().role);
}

/// Raises an error unless the current role may search: have values opened to be compared, and search tags made. PostgreSQL
/// asks for EXECUTE where a statement names a function or operator, but not where `=` is called for an index, an array or a
/// row. A foreign key is checked in the name of the table's owner: then whoever made the change must have the right too.
///
/// `fcinfo` is the running call, of a function of this extension.
#[inline]
pub fn require_search(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let right = Right::Search(function_oid(fcinfo));
    let identity = Identity::current();
    match known_of(right, identity.role) {
        Some(true) if identity.is_referential() => permit(known_of(right, outer_role())),
        is_granted => permit(is_granted),
    }
}

/// Raises an error unless the current role may rotate: EXECUTE on `reencrypt_field` is the right.
pub fn require_rotate() -> Result<(), Error> {
    // SAFETY: catalog look-ups inside a transaction.
    unsafe {
        let schema = extension_schema();
        let encrypted_text = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(c"encrypted_text".as_ptr()),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        );
        let function = find_function(schema, c"reencrypt_field", &[encrypted_text]);
        if may_execute(function, Identity::current().role) { Ok(()) } else { Err(Error::RotateDenied) }
    }
}

fn permit(is_granted: Option<bool>) -> Result<(), Error> {
    match is_granted {
        Some(true) => Ok(()),
        _ if interrupts::are_held_off() && is_vacuum() || index_build::is_for_a_new_key() => Ok(()),
        Some(false) => Err(Error::SearchDenied),
        None => Err(Error::KeysNotReady { cause: None }),
    }
}

/// Whether VACUUM looks for a page in an index, in the name of the table's owner. Nobody learns what it finds, and it must not
/// fail for want of a right. To be asked while interrupts are held off: then no function of the owner runs.
fn is_vacuum() -> bool {
    // SAFETY: what this process is doing is null or shown in its own entry, unless track_activities is off.
    unsafe {
        let entry = pg_sys::MyBEEntry;
        let vacuum = pg_sys::ProgressCommandType::PROGRESS_COMMAND_VACUUM;
        pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
            || !entry.is_null() && (*entry).st_progress_command == vacuum
    }
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
            Right::Search(function) => find_blind_index(pg_sys::get_func_namespace(function)),
            Right::Load => find_function(administration(), c"load_envelope", &[pg_sys::TEXTOID]),
            Right::AdministerKeys => {
                find_function(administration(), c"rotate_key", &[pg_sys::TEXTOID, pg_sys::TEXTOID])
            }
        }
    }
}

/// The schema of administration; an invalid oid where there is none.
///
/// # Safety
/// Inside a transaction.
unsafe fn administration() -> pg_sys::Oid {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_namespace_oid(c"prism_crypt".as_ptr(), true) }
}

/// # Safety
/// Inside a transaction.
unsafe fn find_blind_index(schema: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: as promised by the caller.
    unsafe { find_function(schema, c"blind_index", &[pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::INT4OID]) }
}

/// The schema that the extension was created in; an invalid oid where there is none.
///
/// # Safety
/// Inside a transaction.
unsafe fn extension_schema() -> pg_sys::Oid {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut schema = pg_sys::InvalidOid;
    // SAFETY: the usual scan of a catalog, here of a very small one; each row is used before the next is fetched.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        let catalog = pg_sys::table_open(pg_sys::ExtensionRelationId, lock);
        let (no_snapshot, no_keys) = (std::ptr::null_mut(), std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(catalog, pg_sys::InvalidOid, false, no_snapshot, 0, no_keys);
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let row = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_extension>();
            if row.oid == extension {
                schema = row.extnamespace;
                break;
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, lock);
    }
    schema
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
pub unsafe fn find_function(schema: pg_sys::Oid, name: &CStr, types: &[pg_sys::Oid]) -> pg_sys::Oid {
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

/// Outdates the answers when a function, a role, a membership or the owner of a database changes.
fn listen() {
    if LISTENING.replace(true) {
        return;
    }
    use pg_sys::SysCacheIdentifier::{AUTHMEMMEMROLE, AUTHOID, DATABASEOID, PROCOID};
    // The owner of the database is a member of pg_database_owner.
    for cache in [PROCOID, AUTHOID, AUTHMEMMEMROLE, DATABASEOID] {
        // SAFETY: registered once a backend, and the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget), pg_sys::Datum::null()) }
    }
}

/// Not guarded: it calls nothing that can panic.
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CATALOGS.set(CATALOGS.get().wrapping_add(1));
}
