//! What a backend keeps unlocked, and when it drops it.
//!
//! A call begins with `refresh`, which drops what is outdated: rows after a change to the key tables, master keys after
//! a change to the settings, and either way everything that was unlocked with them. Then it asks for a key, and loads
//! whatever that takes: the rows, the master keys (`sources`), and with them a data key (`data_keys`) or an index key
//! (`index_keys`). What was loaded stays for the next call. Index code can't load anything, so `prepare` does that beforehand.

mod data_keys;
mod index_keys;

use super::budget::Budgets;
use super::invalidation;
use super::replaced;
use super::sources;
use super::table::{KeyRow, KeyState, KeyTable};
use super::tag_cache::{TagCache, scatter_envelopes, scatter_texts};
use crate::error::{Error, KeyName};
use crate::interrupts;
use crate::settings;
use data_keys::UnlockedKey;
use prism_envelope::{IndexKey, KeyVersion, MasterKey, NoncePool, SearchTag};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a failed key command is not run again for indexes, which may not even need it.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The unlocked keys of this backend. Dropping them wipes them.
pub struct Keyring {
    nonces: NoncePool,
    /// As read from their source; dropped when a setting changes or the configuration is reloaded.
    masters: Option<Vec<MasterKey>>,
    masters_as_of: (u64, i64),
    /// Why they could not be loaded before an index was used, and since when.
    no_masters: Option<(String, Instant)>,
    /// The rows of `prism_crypt.data_key`.
    rows: Option<KeyTable>,
    /// Whether a session has changed them since.
    rows_are_outdated: bool,
    unlocked: BTreeMap<KeyVersion, Rc<UnlockedKey>>,
    budgets: Budgets,
    /// The session's sealing key. Looking it up would take 5 % of the time to seal a short value.
    current: Option<Rc<UnlockedKey>>,
    current_as_of: u64,
    /// The key of the last opened value. Looking it up would take 3 % of an opening.
    last_opened: Option<Rc<UnlockedKey>>,
    /// The old and the new key of the last resealed value, likewise.
    last_resealed: Option<(Rc<UnlockedKey>, Rc<UnlockedKey>)>,
    index_keys: BTreeMap<String, Rc<IndexKey>>,
    /// The generation of the index key for the last compared value: joins and indexes ask for every value.
    last_generation: Option<(KeyVersion, Option<u8>)>,
    /// Search tags of values that carry none.
    pub opened: TagCache,
    /// Search tags of text in the session's keyset.
    pub texts: TagCache,
}

impl Keyring {
    /// An empty keyring.
    pub const fn new() -> Self {
        Self {
            nonces: NoncePool::new(),
            masters: None,
            masters_as_of: (0, 0),
            no_masters: None,
            rows: None,
            rows_are_outdated: false,
            unlocked: BTreeMap::new(),
            budgets: Budgets::new(),
            current: None,
            current_as_of: 0,
            last_opened: None,
            last_resealed: None,
            index_keys: BTreeMap::new(),
            last_generation: None,
            opened: TagCache::new(scatter_envelopes),
            texts: TagCache::new(scatter_texts),
        }
    }

    /// Drops what is outdated. Called before every value, so it only compares counters. While interrupts are held off,
    /// what is loaded stays in use, because it could not be loaded again.
    #[inline]
    pub fn refresh(&mut self) {
        let is_outdated = invalidation::is_stale()
            || self.masters_as_of != masters_as_of()
            || self.current_as_of != settings::keyset_generation();
        if is_outdated {
            self.drop_outdated();
        }
    }

    #[cold]
    fn drop_outdated(&mut self) {
        if !interrupts::are_held_off() {
            if invalidation::take_stale() {
                self.rows_are_outdated = true;
                self.lock();
            }
            let masters_as_of = masters_as_of();
            if self.masters_as_of != masters_as_of {
                self.masters_as_of = masters_as_of;
                self.masters = None;
                self.no_masters = None;
                self.lock();
            }
        }
        if self.current_as_of != settings::keyset_generation() {
            self.current_as_of = settings::keyset_generation();
            self.current = None;
            self.texts.clear();
        }
    }

    /// Forgets nonces that were fetched for a transaction that ended.
    pub fn wipe_nonces(&mut self) {
        self.nonces.wipe();
    }

    /// Whether everything that index code may need is loaded and up to date.
    pub fn is_ready(&self) -> bool {
        self.masters.is_some()
            && self.masters_as_of == masters_as_of()
            && self.rows.is_some()
            && !self.rows_are_outdated
            && !invalidation::is_stale()
    }

    /// Loads what index code can't load itself: the tables and the master keys. It is no error if something can't be
    /// loaded, as it may not be needed.
    pub fn prepare(&mut self) {
        if self.rows().is_ok() && self.masters.is_none() && self.may_ask_again() {
            let failure = self.masters().err().map(|error| (error.to_string(), Instant::now()));
            self.no_masters = failure;
        }
    }

    /// A failing command may be slow, so it is not run for every statement.
    fn may_ask_again(&self) -> bool {
        let is_command =
            settings::master_key_source().is_some_and(|(name, _)| name == settings::MASTER_KEY_COMMAND);
        let failed_lately = self.no_masters.as_ref().is_some_and(|(_, since)| since.elapsed() < RETRY_AFTER);
        !(is_command && failed_lately)
    }

    /// The error for index code that needs what is not loaded.
    fn not_ready(&self) -> Error {
        Error::KeysNotReady { cause: self.no_masters.as_ref().map(|(cause, _)| cause.clone()) }
    }

    /// The rows of the key table.
    pub fn rows(&mut self) -> Result<&KeyTable, Error> {
        if self.rows.is_none() || self.rows_are_outdated {
            self.read_rows()?;
        }
        self.rows.as_ref().ok_or(Error::Internal("no rows"))
    }

    #[cold]
    #[inline(never)]
    fn read_rows(&mut self) -> Result<(), Error> {
        if interrupts::are_held_off() {
            return if self.rows.is_some() { Ok(()) } else { Err(self.not_ready()) };
        }
        let rows = KeyTable::read()?;
        self.budgets.keep_those_of(&rows);
        if let Some(before) = &self.rows {
            replaced::noticed(&rows.order_after(before));
        }
        self.rows = Some(rows);
        self.rows_are_outdated = false;
        Ok(())
    }

    /// The master keys, never empty; the first one wraps.
    pub fn masters(&mut self) -> Result<&[MasterKey], Error> {
        if self.masters.is_none() {
            if interrupts::are_held_off() {
                return Err(self.not_ready());
            }
            self.masters = Some(sources::load()?);
        }
        Ok(self.masters.as_deref().unwrap_or_default())
    }

    /// Master keys and nonces, for wrapping.
    pub fn wrapping_key(&mut self) -> Result<(&MasterKey, &mut NoncePool), Error> {
        self.masters()?;
        let first = self.masters.as_ref().and_then(|masters| masters.first()).ok_or(Error::NoMasterKey)?;
        Ok((first, &mut self.nonces))
    }

    /// Whether a value is under the active key of its keyset, with no outdated search tag; false where the rows were not read.
    #[inline]
    pub fn is_current(&self, version: KeyVersion, tag: Option<SearchTag>) -> bool {
        let rows = self.rows.as_ref().filter(|_| !self.rows_are_outdated);
        rows.and_then(|rows| rows.get(version))
            .is_some_and(|row| row.state == KeyState::Active && !tag.is_some_and(|tag| row.is_outdated(tag)))
    }

    /// The row of a version.
    pub fn row(&mut self, version: KeyVersion) -> Result<&KeyRow, Error> {
        self.rows()?.get(version).ok_or(Error::UnknownVersion(version))
    }

    /// The master key with a fingerprint; `key`, of this keyset if it is of one, is what it should unwrap.
    pub fn master(
        &mut self,
        fingerprint: &str,
        key: KeyName,
        keyset: Option<&str>,
    ) -> Result<&MasterKey, Error> {
        let masters = self.masters()?;
        masters.iter().find(|master| master.fingerprint().to_string() == fingerprint).ok_or_else(|| {
            let loaded = masters.iter().map(|master| master.fingerprint().to_string()).collect();
            let keyset = keyset.map(str::to_owned);
            Error::KeyMismatch { key, keyset, expected: fingerprint.to_owned(), loaded }
        })
    }

    /// Drops every unlocked key, and what was made with one.
    fn lock(&mut self) {
        self.unlocked.clear();
        self.current = None;
        self.last_opened = None;
        self.last_resealed = None;
        self.index_keys.clear();
        self.last_generation = None;
        self.opened.clear();
        self.texts.clear();
    }
}

/// Changes whenever a master-key setting changes, or the configuration is reloaded.
#[inline]
fn masters_as_of() -> (u64, i64) {
    (settings::master_generation(), settings::config_generation())
}

fn session_keyset() -> Result<&'static str, Error> {
    settings::keyset().to_str().map_err(|_| Error::Internal("keyset is not text"))
}
