//! Whose setting counts. A session may set what it likes, but that must not change what runs with the rights of another role.
//! Inside a SECURITY DEFINER function, a setting counts only if the function's owner set it, in its SET clause or in its body.
//! In restricted work for the owner of a table, such as ANALYZE or CREATE INDEX, it never counts.

use crate::identity::{Identity, outer_role};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::Relaxed;

/// PostgreSQL's record of a setting: who set it, and how.
pub struct Record(AtomicPtr<pg_sys::config_generic>);

impl Record {
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Finds the record of a setting that is already declared.
    pub fn find(&self, name: &CStr) {
        self.0.store(find(name), Relaxed);
    }

    /// Whether the setting's current value counts under the current role.
    #[inline]
    pub fn counts(&self) -> bool {
        let identity = Identity::current();
        !identity.is_lent() || self.was_set_by(identity)
    }

    /// The role that chose the value, if a session chose it: by SET, or when it connected.
    pub fn chosen_by(&self) -> Option<pg_sys::Oid> {
        use pg_sys::GucSource::{PGC_S_CLIENT, PGC_S_INTERACTIVE};
        // SAFETY: as in `was_set_by`.
        let record = unsafe { self.0.load(Relaxed).as_ref() }?;
        let is_chosen = record.source >= PGC_S_INTERACTIVE || record.source == PGC_S_CLIENT;
        is_chosen.then(|| setter(record).unwrap_or_else(outer_role))
    }

    fn was_set_by(&self, identity: Identity) -> bool {
        // SAFETY: null, or a record that PostgreSQL keeps for as long as the process lives.
        let Some(record) = (unsafe { self.0.load(Relaxed).as_ref() }) else { return false };
        // Values from the catalogs or the client's connection are set in nobody's name.
        !identity.is_restricted()
            && record.source >= pg_sys::GucSource::PGC_S_INTERACTIVE
            && setter(record) == Some(identity.role)
    }
}

/// Whether the value of a setting is the same for every session of the database: it comes from the configuration of the server or of the
/// database, not from a role, a client or a SET.
pub fn is_common(name: &CStr) -> bool {
    // SAFETY: as in `Record::was_set_by`.
    unsafe { find(name).as_ref() }.is_some_and(|record| record.source <= pg_sys::GucSource::PGC_S_DATABASE)
}

/// PostgreSQL 14 doesn't record who set it.
#[cfg(feature = "pg14")]
fn setter(_record: &pg_sys::config_generic) -> Option<pg_sys::Oid> {
    None
}

#[cfg(not(feature = "pg14"))]
fn setter(record: &pg_sys::config_generic) -> Option<pg_sys::Oid> {
    Some(record.srole)
}

#[cfg(any(feature = "pg14", feature = "pg15"))]
fn find(name: &CStr) -> *mut pg_sys::config_generic {
    // SAFETY: PostgreSQL's array of all settings, of that length; names are terminated strings.
    unsafe {
        let (records, count) = (pg_sys::get_guc_variables(), pg_sys::GetNumConfigOptions());
        (0..usize::try_from(count).unwrap_or(0))
            .map(|at| *records.add(at))
            .find(|record| CStr::from_ptr((**record).name) == name)
            .unwrap_or(null_mut())
    }
}

#[cfg(not(any(feature = "pg14", feature = "pg15")))]
fn find(name: &CStr) -> *mut pg_sys::config_generic {
    // SAFETY: a look-up that creates nothing and raises no error; null if there is no such setting.
    unsafe { pg_sys::find_option(name.as_ptr(), false, true, 0) }
}
