//! Who may see what, where PostgreSQL checks no function call: in the input and output functions, in comparisons for
//! indexes, and where PostgreSQL keeps an expression for other roles.
//!
//! A right is the EXECUTE privilege on one function. [`may`] checks one: `lookup` finds the function and asks the
//! catalogs, and the answer is kept until they change. `call` checks the running function. [`require_search`] also
//! considers who made the change that a foreign key is checked for, and the cases in which nobody learns the result
//! (`exemption`). While interrupts are held off nothing can be looked up, so [`prepare_search`] does it beforehand.
//! `role_plans` makes PostgreSQL check again for functions that don't check themselves. This module also tells whether
//! the process applies changes ([`is_logical_worker`]) or sends them ([`is_walsender`]).

mod call;
mod exemption;
mod lookup;
mod role_plans;

use crate::error::Error;
use crate::identity::{Identity, outer_role};
use crate::interrupts;
use lookup::{extension_schema, find_blind_index, find_output, function_of, may_execute};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub use call::{is_known_to_execute, require_execute};
pub use exemption::Exemption;
pub use lookup::{find_function, find_type};

/// A right that is checked inside a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// EXECUTE on `encrypt_field` in the schema of this function.
    Encrypt(pg_sys::Oid),
    /// EXECUTE on `decrypt_field`, in the schema of this output function and for its type.
    Decrypt(pg_sys::Oid),
    /// EXECUTE on `mask_field`, likewise.
    Mask(pg_sys::Oid),
    /// EXECUTE on `blind_index` in the schema of this function.
    Search(pg_sys::Oid),
    /// EXECUTE on `prism_crypt.load_envelope(text)`.
    Load,
    /// EXECUTE on `prism_crypt.rotate_key(text, text)`.
    AdministerKeys,
    /// EXECUTE on `reencrypt_field`.
    Rotate,
}

const KINDS: usize = 7;

impl Right {
    /// Rights of the same kind are for the same function, because the extension has only one schema.
    #[inline]
    fn kind(self) -> usize {
        match self {
            Self::Decrypt(_) => 0,
            Self::Mask(_) => 1,
            Self::Search(_) => 2,
            Self::Load => 3,
            Self::AdministerKeys => 4,
            Self::Rotate => 5,
            Self::Encrypt(_) => 6,
        }
    }
}

/// Whether a role has a right.
#[derive(Clone, Copy)]
struct Answer {
    role: pg_sys::Oid,
    is_granted: bool,
    /// [`CATALOGS`] when the look-up began.
    as_of: u32,
}

impl Answer {
    #[inline]
    fn is_current(self) -> bool {
        self.as_of == CATALOGS.get()
    }
}

/// How many answers a session keeps before it forgets the earlier ones.
const MAX_ANSWERS: usize = 256;

thread_local! {
    /// By kind of right.
    static LAST: [Cell<Option<Answer>>; KINDS] = const { [const { Cell::new(None) }; KINDS] };
    /// By kind of right and role.
    static ALL: RefCell<BTreeMap<(usize, u32), Answer>> = const { RefCell::new(BTreeMap::new()) };
    /// Grows whenever a function, a role, a membership or a database may have changed. A look-up may itself notice a
    /// change; then its answer is outdated.
    static CATALOGS: Cell<u32> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the current role has a right.
#[inline]
pub fn may(right: Right) -> bool {
    may_role(right, Identity::current().role)
}

/// Whether the current role may learn what any value holds: by decrypting it, or by comparing it with what it may hold.
pub fn may_learn() -> bool {
    // SAFETY: catalog look-ups inside a transaction.
    let (output_function, blind_index) = unsafe {
        let schema = extension_schema();
        (find_output(schema), find_blind_index(schema))
    };
    may(Right::Decrypt(output_function)) || may(Right::Search(blind_index))
}

/// Whether a role has a right.
#[inline]
pub fn may_role(right: Right, role: pg_sys::Oid) -> bool {
    known_of(right, role).unwrap_or(false)
}

/// Whether a role has a right; `None` if that is not known, and can't be looked up because interrupts are held off. In
/// that state even an outdated answer is used.
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

/// Whether the current role is known to have the right to search, and is not just checking a foreign key. Looks nothing
/// up.
#[inline]
pub fn is_known_to_search() -> bool {
    let identity = Identity::current();
    !identity.is_referential() && is_search_known_of(identity.role) == Some(true)
}

#[inline]
fn is_search_known_of(role: pg_sys::Oid) -> Option<bool> {
    is_granted_to(Right::Search(pg_sys::InvalidOid), role)
}

/// Whether a role has a right of this kind; `None` if that is not known. Looks nothing up.
#[inline]
fn is_granted_to(right: Right, role: pg_sys::Oid) -> Option<bool> {
    let last = LAST.with(|last| last[right.kind()].get());
    last.filter(|last| last.role == role && last.is_current()).map(|last| last.is_granted)
}

/// Whether [`prepare_search`] has nothing to do.
#[inline]
pub fn is_search_prepared() -> bool {
    let role = Identity::current().role;
    is_search_known_of(role).is_some() && role == outer_role()
}

/// Looks up what [`require_search`] may need while nothing can be looked up.
pub fn prepare_search() {
    if is_search_prepared() || interrupts::are_held_off() {
        return;
    }
    // SAFETY: catalog look-ups inside a transaction.
    let right = Right::Search(unsafe { find_blind_index(extension_schema()) });
    known_of(right, outer_role());
    known_of(right, Identity::current().role);
}

/// Fails unless the current role may search, that is, have values opened for comparison and search tags made.
/// PostgreSQL checks EXECUTE where a statement names a function or operator, but not where `=` is called for an index,
/// an array or a row. A foreign key is checked as the table's owner: then whoever made the change must have the right too.
///
/// `fcinfo` is the running call of a function of this extension.
#[inline]
pub fn require_search(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let right = Right::Search(function_oid(fcinfo));
    let identity = Identity::current();
    match known_of(right, identity.role) {
        Some(true) if identity.is_referential() => permit(known_of(right, outer_role())),
        is_granted => permit(is_granted),
    }
}

/// Fails unless the current role may encrypt. Whoever may search may encrypt too, because what values are compared with
/// is encrypted. A foreign key writes as the table's owner: then whoever made the change must have the right too.
///
/// `fcinfo` is the running call of a function of this extension.
#[inline]
pub fn require_encrypt(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let function = function_oid(fcinfo);
    let identity = Identity::current();
    let may = may_encrypt(function, identity.role)
        && (!identity.is_referential() || may_encrypt(function, outer_role()));
    if may { Ok(()) } else { Err(Error::EncryptDenied) }
}

/// Whether [`require_encrypt`] is known to succeed, and not just because a foreign key is checked. Looks nothing up.
#[inline]
pub fn is_known_to_encrypt() -> bool {
    let identity = Identity::current();
    !identity.is_referential()
        && is_granted_to(Right::Encrypt(pg_sys::InvalidOid), identity.role) == Some(true)
}

/// Whether a role may encrypt, or search. `function` is one of this extension.
#[inline]
pub fn may_encrypt(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    may_role(Right::Encrypt(function), role) || may_role(Right::Search(function), role)
}

fn permit(is_granted: Option<bool>) -> Result<(), Error> {
    match is_granted {
        Some(true) => Ok(()),
        _ if exemption::holds() => Ok(()),
        Some(false) => Err(Error::SearchDenied),
        None => Err(Error::KeysNotReady { cause: None }),
    }
}

/// The oid of the function that is running.
#[inline]
pub fn function_oid(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Oid {
    // SAFETY: PostgreSQL passes a valid call; `flinfo` is null only in direct calls, which nobody makes.
    unsafe {
        let function = (*fcinfo).flinfo;
        if function.is_null() { pg_sys::InvalidOid } else { (*function).fn_oid }
    }
}

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary; this is called for each value that is put out.
    fn IsLogicalWorker() -> bool;
}

/// Whether this process applies changes that another server replicates.
pub fn is_logical_worker() -> bool {
    // SAFETY: only reads what kind of process this is.
    unsafe { IsLogicalWorker() }
}

/// `prism_crypt._is_logical_worker() → boolean`
#[pg_extern(sql = false)]
fn _is_logical_worker() -> bool {
    is_logical_worker()
}

/// Whether this process sends WAL to another server.
pub fn is_walsender() -> bool {
    // SAFETY: a global that is set when the process starts.
    unsafe { pg_sys::am_walsender }
}

/// Makes the answers outdated when a function, a role, a membership or the owner of a database changes.
fn listen() {
    if LISTENING.replace(true) {
        return;
    }
    use pg_sys::SysCacheIdentifier::{AUTHMEMMEMROLE, AUTHOID, DATABASEOID, PROCOID};
    // The owner of the database is a member of pg_database_owner.
    for cache in [PROCOID, AUTHOID, AUTHMEMMEMROLE, DATABASEOID] {
        // SAFETY: registered once per backend, and the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget), pg_sys::Datum::null()) }
    }
}

/// Not guarded: it calls nothing that can panic.
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CATALOGS.set(CATALOGS.get().wrapping_add(1));
}
