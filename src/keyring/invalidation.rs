//! Hears of changes to the key table: of our own at the end of the command, of other sessions' once they committed, and
//! of our own again when they are rolled back. All of that is PostgreSQL's relation-cache invalidation, which a trigger
//! on the table sends ([`data_key_changed`]).

use crate::settings;
use pgrx::prelude::*;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

static STALE: AtomicBool = AtomicBool::new(true);
static LISTENING: AtomicBool = AtomicBool::new(false);
static KEY_TABLE: AtomicU32 = AtomicU32::new(0);

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary at each call, which costs more than the call.
    #[link_name = "AcceptInvalidationMessages"]
    fn accept_invalidation_messages();
}

/// Takes in what other sessions committed. Otherwise a running transaction that takes no new lock would not hear of it.
///
/// To be called while nothing is held that would have to be dropped: an error leaves it without unwinding.
#[inline]
pub fn accept_messages() {
    // SAFETY: what PostgreSQL itself does whenever it locks a relation; we are inside a transaction.
    unsafe { accept_invalidation_messages() }
}

/// Whether the key table may have changed since the last call.
#[inline]
pub fn take_stale() -> bool {
    STALE.load(Relaxed) && STALE.swap(false, Relaxed)
}

/// The table was read under this oid: from now on its changes are heard.
pub fn listen_for(key_table: pg_sys::Oid) {
    KEY_TABLE.store(key_table.to_u32(), Relaxed);
    if !LISTENING.swap(true, Relaxed) {
        // SAFETY: registered once a backend, and the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null()) }
    }
}

/// Marks what was read as outdated, after a failed read.
pub fn mark_stale() {
    STALE.store(true, Relaxed);
}

/// The id of this process as PostgreSQL knows it, which is up to date after a fork and costs no system call.
#[inline]
pub fn current_process_id() -> u32 {
    // SAFETY: a global that only this process writes.
    unsafe { pg_sys::MyProcPid.cast_unsigned() }
}

/// Not guarded: nothing that it calls can panic or raise an error.
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    if relation == pg_sys::InvalidOid || relation.to_u32() == KEY_TABLE.load(Relaxed) {
        STALE.store(true, Relaxed);
        settings::forget_constants();
    }
}

/// Trigger of `prism_crypt.data_key` and of `prism_crypt.index_key`: tells every backend, this one included, that keys
/// changed. Backends listen for the first of the two.
#[pg_trigger(sql = false)]
fn data_key_changed<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, pgrx::AllocatedByPostgres>>, pgrx::trigger_support::PgTriggerError> {
    let relation = super::table::key_table().unwrap_or(trigger.relid()?);
    // SAFETY: queues a message for the end of the command and of the transaction.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
    Ok(None)
}

/// `prism_crypt._keys_change() → boolean`: the same, where triggers don't fire.
#[pg_extern(sql = false)]
fn _keys_change() -> bool {
    tell_sessions();
    true
}

/// Tells every backend, this one included, that keys changed.
pub fn tell_sessions() {
    if let Some(relation) = super::table::key_table() {
        // SAFETY: queues a message for the end of the command and of the transaction.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
    }
}
