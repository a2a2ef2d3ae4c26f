//! Notices changes to the key table: our own at the end of the command, those of other sessions once they commit, and
//! our own again when they are rolled back. All of this is PostgreSQL's relation-cache invalidation, which a trigger on
//! the table sends ([`data_key_changed`]).

use super::{own_table, replaced};
use crate::error::{Error, SqlResult};
use crate::plan_cache;
use pgrx::prelude::*;
use pgrx::trigger_support::called_as_trigger;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

static STALE: AtomicBool = AtomicBool::new(true);
static LISTENING: AtomicBool = AtomicBool::new(false);
static KEY_TABLE: AtomicU32 = AtomicU32::new(0);
/// Grows whenever any relation may have changed.
static RELATIONS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary, which costs 3 % of an opening.
    #[link_name = "AcceptInvalidationMessages"]
    fn accept_invalidation_messages();
}

/// Accepts the invalidation messages of other sessions. Otherwise a running transaction that takes no new lock would
/// not see them.
///
/// Called for each value, while nothing is held that has to be dropped: an error leaves it without unwinding.
#[inline]
pub fn accept_messages() {
    // SAFETY: PostgreSQL does the same whenever it locks a relation; we are inside a transaction.
    unsafe { accept_invalidation_messages() }
}

/// The same for callers that may hold something to drop: an error unwinds.
pub fn accept_messages_unwinding() {
    // SAFETY: as above.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// Whether the key table may have changed since the last call.
#[inline]
pub fn take_stale() -> bool {
    STALE.load(Relaxed) && STALE.swap(false, Relaxed)
}

/// [`take_stale`] without the reset.
#[inline]
pub fn is_stale() -> bool {
    STALE.load(Relaxed)
}

/// Listens for changes to the key table, which is about to be read under this oid.
pub fn listen_for(key_table: pg_sys::Oid) {
    KEY_TABLE.store(key_table.to_u32(), Relaxed);
    listen();
}

/// Changes whenever any relation may have changed.
pub fn relations_as_of() -> u32 {
    listen();
    RELATIONS.load(Relaxed)
}

fn listen() {
    if !LISTENING.swap(true, Relaxed) {
        // SAFETY: registered once per backend, and the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null()) }
    }
}

/// Marks the cached rows as outdated, after a failed read.
pub fn mark_stale() {
    STALE.store(true, Relaxed);
}

/// Not guarded: nothing that it calls can panic or raise an error.
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    RELATIONS.fetch_add(1, Relaxed);
    replaced::relation_changed(relation);
    if relation == pg_sys::InvalidOid || relation.to_u32() == KEY_TABLE.load(Relaxed) {
        STALE.store(true, Relaxed);
        plan_cache::forget_constants();
    }
}

/// Trigger of `prism_crypt.data_key` and of `prism_crypt.index_key`: tells every backend, this one included, that keys
/// changed. Backends listen for the first of the two tables.
#[pg_extern(sql = false)]
fn data_key_changed(call: pg_sys::FunctionCallInfo) -> SqlResult<()> {
    // SAFETY: the context of a trigger call has the trigger's relation. The rest queues a message for the end of the
    // command and of the transaction.
    unsafe {
        if !called_as_trigger(call) {
            return Err(Error::NotTrigger.into());
        }
        let trigger = &*(*call).context.cast::<pg_sys::TriggerData>();
        let relation = own_table::key_table().unwrap_or((*trigger.tg_relation).rd_id);
        pg_sys::CacheInvalidateRelcacheByRelid(relation);
    }
    Ok(())
}

/// `prism_crypt._tell_relation_changed(relation oid)`: makes sessions reload a table's list of indexes. A change to a
/// row of `pg_index` alone leaves them with the list that they have.
#[pg_extern(sql = false)]
fn _tell_relation_changed(relation: pg_sys::Oid) {
    // SAFETY: queues a message for the end of the command and of the transaction; it needs the relation's `pg_class`
    // row, which is checked.
    unsafe {
        let key = pg_sys::Datum::from(relation);
        if pg_sys::SearchSysCacheExists(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            key,
            null(),
            null(),
            null(),
        ) {
            pg_sys::CacheInvalidateRelcacheByRelid(relation);
        }
    }
}

fn null() -> pg_sys::Datum {
    pg_sys::Datum::null()
}

/// `prism_crypt._keys_change() → boolean`: tells every backend that keys changed, as [`data_key_changed`] does, where
/// triggers don't fire.
#[pg_extern(sql = false)]
fn _keys_change() -> bool {
    tell_sessions();
    true
}

/// Tells every backend, this one included, that keys changed.
pub fn tell_sessions() {
    if let Some(relation) = own_table::key_table() {
        // SAFETY: queues a message for the end of the command and of the transaction.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
    }
}
