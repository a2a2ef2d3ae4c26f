//! How many values a key may still seal. SP 800-38D (section 8.3) allows 2^32 with random nonces of 96 bits.
//!
//! A backend reserves seals in blocks, and counts a block when it reserves it. So whatever happens to the backend, the
//! count is never below the number of values it sealed, less than twice that number, and at most 16383 too high.

use super::table::KeyTable;
use super::usage::{self, Place};
use crate::error::{Error, warn};
use crate::settings;
use pgrx::pg_sys;
use prism_envelope::KeyVersion;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How many values one key may seal (SP 800-38D, section 8.3).
pub const SEAL_LIMIT: u64 = 1 << 32;
/// The count from which on a warning is given: half the limit.
pub const SEAL_WARNING: u64 = 1 << 31;
/// The largest block. At 4 million values a second, one reservation every 4 ms.
const MAX_BLOCK: u32 = 16_384;

/// What this backend has reserved of one key.
pub struct Budget {
    left: Cell<u32>,
    /// Doubles with each reservation, so that a short session counts nearly exactly.
    next_block: Cell<u32>,
    /// Reserved while it could not be counted: on a standby, or without a row. Counted as soon as that is possible.
    owed: Cell<u64>,
    place: Cell<Option<Place>>,
    warned: Cell<bool>,
}

impl Budget {
    const fn new() -> Self {
        Self {
            left: Cell::new(0),
            next_block: Cell::new(1),
            owed: Cell::new(0),
            place: Cell::new(None),
            warned: Cell::new(false),
        }
    }

    /// Takes one reserved seal; false if none is left.
    #[inline]
    pub fn take(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// Reserves the next block, and takes one seal of it. Warns once per session when the key reaches half of its
    /// limit. Fails only at the limit; where nothing can be counted, sealing goes on uncounted. `table` is
    /// `prism_crypt.data_key_usage`.
    pub fn reserve(&self, version: KeyVersion, table: Option<pg_sys::Oid>) -> Result<(), Error> {
        let block = self.next_block.get();
        let owed = self.owed.get();
        let is_enforced = settings::enforces_seal_limit();
        let allowed = if is_enforced { SEAL_LIMIT } else { u64::MAX };
        let next = |count: u64| {
            let count = count.saturating_add(owed);
            count.saturating_add(allowed.saturating_sub(count).min(block.into()))
        };
        let mut place = self.place.take();
        // SAFETY: reads the state of the server.
        let is_standby = unsafe { pg_sys::RecoveryInProgress() };
        let change = match table {
            Some(table) if !is_standby => usage::change(table, version, &mut place, next)?,
            _ => None,
        };
        self.place.set(place);
        let granted = match change {
            Some(change) => {
                self.owed.set(0);
                let granted = change.after.saturating_sub(change.before).saturating_sub(owed);
                // A whole block, or less at the limit.
                if is_enforced { u32::try_from(granted).unwrap_or(block) } else { block }
            }
            None => {
                self.owed.set(owed.saturating_add(block.into()));
                block
            }
        };
        let Some(left) = granted.checked_sub(1) else {
            return Err(Error::SealLimit { version, limit: SEAL_LIMIT });
        };
        self.left.set(left);
        self.next_block.set(block.saturating_mul(2).min(MAX_BLOCK));
        let is_many = change.is_some_and(|change| change.after >= SEAL_WARNING);
        if is_many && !self.warned.replace(true) {
            warn(
                &format!("key version {version} has sealed half of the values that it may"),
                Some(&format!("The limit is {SEAL_LIMIT} values.")),
                Some("Call prism_crypt.rotate_key() to make the next key of its keyset."),
            );
        }
        Ok(())
    }
}

/// The budgets of a backend. They outlive the unlocked keys, which are dropped whenever any key changes.
pub struct Budgets {
    key_table: pg_sys::Oid,
    by_version: BTreeMap<KeyVersion, Rc<Budget>>,
}

impl Budgets {
    /// None yet.
    pub const fn new() -> Self {
        Self { key_table: pg_sys::InvalidOid, by_version: BTreeMap::new() }
    }

    /// Forgets the budgets of keys that no longer exist. After DROP and CREATE EXTENSION, versions start again.
    pub fn keep_those_of(&mut self, rows: &KeyTable) {
        if self.key_table != rows.key_table() {
            self.key_table = rows.key_table();
            self.by_version.clear();
        }
        self.by_version.retain(|version, _| rows.get(*version).is_some());
    }

    /// The budget of a version.
    pub fn of(&mut self, version: KeyVersion) -> Rc<Budget> {
        Rc::clone(self.by_version.entry(version).or_insert_with(|| Rc::new(Budget::new())))
    }
}
