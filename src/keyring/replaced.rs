//! Transactions that are running while an index key is replaced. Usually they don't matter: whoever replaces a key
//! locks every table with encrypted columns. But there may be
//!
//! - tables that could not be locked ([`_announce_to_transactions`]): look-ups in their indexes used the old key, so a
//!   transaction that was running then can't go on with the new one, and
//! - uncommitted tables and indexes, which nobody else sees: if such an index was built with the old key, its
//!   transaction can't commit.
//!
//! A transaction's own replacements of index keys don't matter, because it rebuilds its indexes. Its other changes to
//! keys don't exempt it.

use super::{locks, own_table, with_keyring};
use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{CStr, c_void};

/// An invalidation of this sequence, which nobody sends otherwise, says that tables could not be locked.
const MARKER: &CStr = c"data_key_version_seq";

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static MARKER_TABLE: Cell<u32> = const { Cell::new(0) };
    /// How often the index key of values was changed by others, or changed back by a rollback.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    // The rest is about the running transaction.
    static IS_MARKED: Cell<bool> = const { Cell::new(false) };
    static IS_SPOILT: Cell<bool> = const { Cell::new(false) };
    /// The transaction or its subtransaction that last replaced an index key.
    static REPLACED_BY: Cell<Option<pg_sys::TransactionId>> = const { Cell::new(None) };
    /// Set while it may build an index but has not asked for an index key since. Holds the subtransaction, because what
    /// that built is lost with it.
    static MAY_BUILD: Cell<Option<pg_sys::SubTransactionId>> = const { Cell::new(None) };
    /// [`CHANGES`] when it first asked for one, and the subtransaction.
    static BUILDS: Cell<Option<Builds>> = const { Cell::new(None) };
}

/// Whose change gave values another index key, and indexes another order.
pub enum NewOrder {
    Unchanged,
    /// By the running transaction or a subtransaction of it; which one, if a key replaced another.
    Ours(Option<pg_sys::TransactionId>),
    Theirs,
}

#[derive(Clone, Copy)]
struct Builds {
    as_of: u64,
    within: pg_sys::SubTransactionId,
}

/// Called before the key tables are read.
pub fn listen() {
    if !LISTENING.replace(true) {
        // SAFETY: registered once per backend, and the callbacks live as long as the library.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
        }
    }
    let marker = own_table::find(MARKER).unwrap_or(pg_sys::InvalidOid).to_u32();
    if MARKER_TABLE.replace(marker) != marker {
        // The extension was recreated: no index is left that this transaction knew.
        IS_MARKED.set(false);
        IS_SPOILT.set(false);
    }
}

/// A relation may have changed; an invalid oid means any. Calls nothing that can panic or raise an error.
pub fn relation_changed(relation: pg_sys::Oid) {
    let is_marker = relation == pg_sys::InvalidOid || relation.to_u32() == MARKER_TABLE.get();
    // SAFETY: reads the state of this session. A starting transaction accepts messages before it is in that state.
    if is_marker && unsafe { pg_sys::IsTransactionState() } {
        IS_MARKED.set(true);
    }
}

/// Called after the tables were read again.
pub fn noticed(order: &NewOrder) {
    match order {
        NewOrder::Unchanged | NewOrder::Ours(None) => {}
        NewOrder::Ours(by) => REPLACED_BY.set(*by),
        NewOrder::Theirs => {
            CHANGES.set(CHANGES.get().wrapping_add(1));
            if IS_MARKED.get() {
                IS_SPOILT.set(true);
            }
        }
    }
}

/// Called when an index key or its generation is needed, after the tables were read. Fails in a transaction that may
/// not use the current index keys.
#[inline]
pub fn check() -> Result<(), Error> {
    if let Some(within) = MAY_BUILD.take() {
        BUILDS.set(Some(Builds { as_of: CHANGES.get(), within }));
    }
    if IS_SPOILT.get() { Err(Error::IndexKeyReplaced) } else { Ok(()) }
}

/// Called before a statement that may build an index. It may wait for a lock first: what counts is the index keys that
/// it then builds with.
pub fn before_build() {
    if BUILDS.get().is_none() && MAY_BUILD.get().is_none() {
        // SAFETY: reads the state of this session's transaction.
        MAY_BUILD.set(Some(unsafe { pg_sys::GetCurrentSubTransactionId() }));
    }
}

/// `prism_crypt._announce_to_transactions()`: transactions that are running when this one commits fail if they use
/// index keys afterwards.
#[pg_extern(sql = false)]
fn _announce_to_transactions() -> SqlResult<()> {
    let marker =
        own_table::find(MARKER).ok_or(Error::Internal("the sequence of key versions is not there"))?;
    // SAFETY: queues a message for the end of the command and of the transaction.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(marker) };
    Ok(())
}

/// An error may be raised before a commit, but not after it or in an abort.
#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_PARALLEL_PRE_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE};
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            let checked =
                if event == XACT_EVENT_PRE_COMMIT { check_builds() } else { refuse_prepared_builds() };
            if let Err(error) = checked {
                error.raise();
            }
        }
        XACT_EVENT_PARALLEL_PRE_COMMIT => {}
        _ => {
            IS_MARKED.set(false);
            IS_SPOILT.set(false);
            REPLACED_BY.set(None);
            MAY_BUILD.set(None);
            BUILDS.set(None);
        }
    }
}

/// What a subtransaction built is lost if it aborts, and its parent's if it commits. If the replacement of an index key
/// is rolled back, another session's new key may get the same number and go unnoticed: so indexes from before it, which
/// are back now, can't be committed. Not guarded: it calls nothing that can panic or raise an error.
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    this: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    let heir = match event {
        SUBXACT_EVENT_COMMIT_SUB => Some(parent),
        SUBXACT_EVENT_ABORT_SUB => None,
        _ => return,
    };
    if MAY_BUILD.get() == Some(this) {
        MAY_BUILD.set(heir);
    }
    if let Some(builds) = BUILDS.get().filter(|builds| builds.within == this) {
        BUILDS.set(heir.map(|within| Builds { within, ..builds }));
    }
    if event == SUBXACT_EVENT_ABORT_SUB
        && let Some(by) = REPLACED_BY.get()
        // SAFETY: reads the state of this session's transaction. A subtransaction that is being aborted is not current.
        && !unsafe { pg_sys::TransactionIdIsCurrentTransactionId(by) }
    {
        REPLACED_BY.set(None);
        CHANGES.set(CHANGES.get().wrapping_add(1));
    }
}

/// Fails if indexes of this transaction may have been built with a key that has been replaced since.
fn check_builds() -> Result<(), Error> {
    let Some(Builds { as_of, .. }) = BUILDS.get() else { return Ok(()) };
    // Whoever replaces an index key takes this lock too, so one of the two sees the other.
    locks::before_index_commit();
    // If the tables can't be read, nobody can have changed them.
    let _ = with_keyring(|keyring| keyring.rows().map(drop));
    if CHANGES.get() == as_of { Ok(()) } else { Err(Error::IndexKeyReplaced) }
}

/// A prepared transaction would keep the lock of [`check_builds`], and so block changes of index keys, until somebody ends it.
fn refuse_prepared_builds() -> Result<(), Error> {
    if BUILDS.get().is_some() { Err(Error::PreparedBuild) } else { Ok(()) }
}
