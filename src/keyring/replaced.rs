//! Transactions that go on while index keys are replaced. Usually there are none that matter: whoever replaces a key locks every
//! table with encrypted columns. But there may be
//!
//! - tables that could not be locked ([`_announce_to_transactions`]): what was looked up in their indexes goes by the old key, so a
//!   transaction that was running then can't go on by the new one, and
//! - tables and indexes that are not committed, which nobody else sees: if their index was built by the old key, that
//!   transaction can't commit.
//!
//! What a transaction itself does with index keys is no matter: it sees to its indexes. Other changes of keys that it makes don't
//! exempt it.

use super::{locks, own_table, with_keyring};
use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{CStr, c_void};

/// Whose change, which nobody makes otherwise, says that tables could not be locked.
const MARKER: &CStr = c"data_key_version_seq";

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static MARKER_TABLE: Cell<u32> = const { Cell::new(0) };
    /// How often values were found to have another index key than before, by others.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    // What follows is about the transaction that is running.
    static IS_MARKED: Cell<bool> = const { Cell::new(false) };
    static IS_SPOILT: Cell<bool> = const { Cell::new(false) };
    /// It, or its subtransaction that replaced an index key last.
    static REPLACED_BY: Cell<Option<pg_sys::TransactionId>> = const { Cell::new(None) };
    /// Whether it may build an index from now on, and has not asked for an index key since. In which subtransaction: what it
    /// built is gone with it.
    static MAY_BUILD: Cell<Option<pg_sys::SubTransactionId>> = const { Cell::new(None) };
    /// [`CHANGES`] when it first did, likewise.
    static BUILDS: Cell<Option<Builds>> = const { Cell::new(None) };
}

/// Whose change gave values another index key: then indexes have another order.
pub enum NewOrder {
    Unchanged,
    /// Of the transaction that is running, or of a subtransaction of it. Which one, where a key took another's place.
    Ours(Option<pg_sys::TransactionId>),
    Theirs,
}

#[derive(Clone, Copy)]
struct Builds {
    as_of: u64,
    within: pg_sys::SubTransactionId,
}

/// The tables of keys are about to be read.
pub fn listen() {
    if !LISTENING.replace(true) {
        // SAFETY: registered once a backend, and the callback lives as long as the library.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
        }
    }
    let marker = own_table::find(MARKER).unwrap_or(pg_sys::InvalidOid).to_u32();
    if MARKER_TABLE.replace(marker) != marker {
        // Another extension than before: no index is left that this transaction knew.
        IS_MARKED.set(false);
        IS_SPOILT.set(false);
    }
}

/// A relation may have changed; an invalid oid is any. Calls nothing that can panic or raise an error.
pub fn relation_changed(relation: pg_sys::Oid) {
    let is_marker = relation == pg_sys::InvalidOid || relation.to_u32() == MARKER_TABLE.get();
    // SAFETY: reads the state of this session. A transaction that begins takes messages in before it is in that state.
    if is_marker && unsafe { pg_sys::IsTransactionState() } {
        IS_MARKED.set(true);
    }
}

/// The tables were read again.
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

/// An index key is asked for, or the generation of one, and the tables have been read: raises an error in a transaction that may
/// not go by the index keys that there are now.
#[inline]
pub fn check() -> Result<(), Error> {
    if let Some(within) = MAY_BUILD.take() {
        BUILDS.set(Some(Builds { as_of: CHANGES.get(), within }));
    }
    if IS_SPOILT.get() { Err(Error::IndexKeyReplaced) } else { Ok(()) }
}

/// A statement runs that may build an index. It may wait for a lock first: what counts is the index keys that it builds by.
pub fn before_build() {
    if BUILDS.get().is_none() && MAY_BUILD.get().is_none() {
        // SAFETY: reads the state of this session's transaction.
        MAY_BUILD.set(Some(unsafe { pg_sys::GetCurrentSubTransactionId() }));
    }
}

/// `prism_crypt._announce_to_transactions()`: every transaction that is running when this one commits must end before it can go
/// by index keys again.
#[pg_extern(sql = false)]
fn _announce_to_transactions() -> SqlResult<()> {
    let marker =
        own_table::find(MARKER).ok_or(Error::Internal("the sequence of key versions is not there"))?;
    // SAFETY: queues a message for the end of the command and of the transaction.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(marker) };
    Ok(())
}

/// Before a commit may raise an error; when it is done, or an abort, nothing may.
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

/// What was built in a subtransaction is gone with it, or its parent's. An index key that is gone may hide another one's of the same
/// number: so what was built before it, and is there again, can't be committed. Not guarded: it calls nothing that can panic or raise an error.
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
        // SAFETY: looks at the state of this session's transaction. One that is being aborted is not a current one.
        && !unsafe { pg_sys::TransactionIdIsCurrentTransactionId(by) }
    {
        REPLACED_BY.set(None);
        CHANGES.set(CHANGES.get().wrapping_add(1));
    }
}

/// An error where indexes of this transaction may have been built by a key that was replaced since.
fn check_builds() -> Result<(), Error> {
    let Some(Builds { as_of, .. }) = BUILDS.get() else { return Ok(()) };
    // Whoever replaces an index key has it, too: so one of both sees the other.
    locks::before_index_commit();
    // Where the tables can't be read, nobody can have changed them.
    let _ = with_keyring(|keyring| keyring.rows().map(drop));
    if CHANGES.get() == as_of { Ok(()) } else { Err(Error::IndexKeyReplaced) }
}

/// A prepared transaction would keep the lock of [`check_builds`], and so every index key, until somebody ends it.
fn refuse_prepared_builds() -> Result<(), Error> {
    if BUILDS.get().is_some() { Err(Error::PreparedBuild) } else { Ok(()) }
}
