//! What a backend keeps unlocked, and when it lets go of it.

use super::budget::{Budget, Budgets};
use super::invalidation;
use super::replaced;
use super::sources;
use super::table::{KeyRow, KeyState, KeyTable};
use super::tag_cache::{TagCache, scatter_envelopes, scatter_texts};
use crate::error::{Error, KeyName};
use crate::interrupts;
use crate::settings;
use prism_envelope::{
    DataKey, IndexKey, KeyBytes, KeyIdentity, KeyVersion, MasterKey, NoncePool, SearchTag, UnwrapError,
};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a key command that failed is not run again for indexes that may not even need it.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A data key that was unlocked, and what may be sealed with it.
pub struct UnlockedKey {
    key: DataKey,
    budget: Rc<Budget>,
}

impl Deref for UnlockedKey {
    type Target = DataKey;

    fn deref(&self) -> &DataKey {
        &self.key
    }
}

/// The unlocked keys of this backend. Dropping them wipes them.
pub struct Keyring {
    nonces: NoncePool,
    /// As read from their source; dropped when a setting changes or the configuration is reloaded.
    masters: Option<Vec<MasterKey>>,
    masters_as_of: (u64, i64),
    /// Why they could not be had when an index was about to need them, and since when.
    no_masters: Option<(String, Instant)>,
    /// The rows of `prism_crypt.data_key`.
    rows: Option<KeyTable>,
    /// Whether a session changed them since.
    rows_are_outdated: bool,
    unlocked: BTreeMap<KeyVersion, Rc<UnlockedKey>>,
    budgets: Budgets,
    /// The session's sealing key, so that the next value needs no look-up.
    current: Option<Rc<UnlockedKey>>,
    current_as_of: u64,
    /// The key of the last value that was opened, likewise.
    last_opened: Option<Rc<UnlockedKey>>,
    /// The old and the new key of the last value that was resealed, likewise.
    last_resealed: Option<(Rc<UnlockedKey>, Rc<UnlockedKey>)>,
    index_keys: BTreeMap<String, Rc<IndexKey>>,
    /// The index key of the session's keyset.
    current_index: Option<Rc<IndexKey>>,
    /// The version that was last found to be of the session's keyset, or not.
    last_in_keyset: Option<(KeyVersion, bool)>,
    /// The generation of the index key that the last compared value is under, likewise.
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
            current_index: None,
            last_in_keyset: None,
            last_generation: None,
            opened: TagCache::new(scatter_envelopes),
            texts: TagCache::new(scatter_texts),
        }
    }

    /// Drops what is outdated. Called before every value, so it only compares counters. While interrupts are held off what
    /// was there when the statement came to the index has to do, as nothing could take its place.
    pub fn refresh(&mut self) {
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
            self.current_index = None;
            self.last_in_keyset = None;
            self.texts.clear();
        }
    }

    /// Forgets nonces that were fetched for a transaction that ended.
    pub fn wipe_nonces(&mut self) {
        self.nonces.wipe();
    }

    /// Whether everything is here, and up to date, that index code may need.
    pub fn is_ready(&self) -> bool {
        self.masters.is_some()
            && self.masters_as_of == masters_as_of()
            && self.rows.is_some()
            && !self.rows_are_outdated
            && !invalidation::is_stale()
    }

    /// Fetches what index code can't fetch itself: the tables, and the master keys. What can't be had is no error here, for it
    /// may not be needed.
    pub fn prepare(&mut self) {
        if self.rows().is_ok() && self.masters.is_none() && self.may_ask_again() {
            let failure = self.masters().err().map(|error| (error.to_string(), Instant::now()));
            self.no_masters = failure;
        }
    }

    /// A command that fails may take long to do so, and is not run for every statement.
    fn may_ask_again(&self) -> bool {
        let is_command =
            settings::master_key_source().is_some_and(|(name, _)| name == settings::MASTER_KEY_COMMAND);
        let failed_lately = self.no_masters.as_ref().is_some_and(|(_, since)| since.elapsed() < RETRY_AFTER);
        !(is_command && failed_lately)
    }

    /// The error of index code that needs what is not here.
    fn not_ready(&self) -> Error {
        Error::KeysNotReady { cause: self.no_masters.as_ref().map(|(cause, _)| cause.clone()) }
    }

    /// The active key of a keyset (`None`: of the session's), and the nonces to seal with. One value is counted.
    pub fn sealing_key(&mut self, keyset: Option<&str>) -> Result<(Rc<UnlockedKey>, &mut NoncePool), Error> {
        let key = match (keyset, &self.current) {
            (None, Some(key)) => Rc::clone(key),
            (Some(keyset), _) => self.active_key(keyset)?,
            (None, None) => {
                let key = self.active_key(session_keyset()?)?;
                self.current = Some(Rc::clone(&key));
                key
            }
        };
        self.count(&key)?;
        Ok((key, &mut self.nonces))
    }

    /// The key of a version, if values of that version may be read.
    pub fn opening_key(&mut self, version: KeyVersion) -> Result<&Rc<UnlockedKey>, Error> {
        if self.last_opened.as_ref().is_none_or(|key| key.version() != version) {
            self.last_opened = Some(self.unlock(version)?);
        }
        self.last_opened.as_ref().ok_or(Error::UnknownVersion(version))
    }

    /// The key of a version, the active key of the same keyset, and the nonces to seal with. One value is counted.
    pub fn resealing_keys(
        &mut self,
        version: KeyVersion,
    ) -> Result<(Rc<UnlockedKey>, Rc<UnlockedKey>, &mut NoncePool), Error> {
        let (old, new) = match &self.last_resealed {
            Some((old, new)) if old.version() == version => (Rc::clone(old), Rc::clone(new)),
            _ => {
                let old = Rc::clone(self.opening_key(version)?);
                let keyset = self.row(version)?.keyset.clone();
                let new = self.active_key(&keyset)?;
                self.last_resealed = Some((Rc::clone(&old), Rc::clone(&new)));
                (old, new)
            }
        };
        self.count(&new)?;
        Ok((old, new, &mut self.nonces))
    }

    /// Counts one value that will be sealed with a key.
    #[inline]
    fn count(&mut self, key: &UnlockedKey) -> Result<(), Error> {
        if key.budget.take() { Ok(()) } else { self.reserve(key) }
    }

    #[cold]
    #[inline(never)]
    fn reserve(&mut self, key: &UnlockedKey) -> Result<(), Error> {
        let table = self.rows()?.usage_table();
        key.budget.reserve(key.version(), table)
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

    /// The master keys, the one that wraps first; never empty.
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

    /// The row of a version.
    pub fn row(&mut self, version: KeyVersion) -> Result<&KeyRow, Error> {
        self.rows()?.get(version).ok_or(Error::UnknownVersion(version))
    }

    /// The unwrapped key of a version, not expanded.
    pub fn unwrap(&mut self, version: KeyVersion) -> Result<KeyBytes, Error> {
        self.masters()?;
        let row = self.row(version)?;
        let (keyset, fingerprint, wrapped) =
            (row.keyset.clone(), row.master_fingerprint.clone(), row.wrapped.clone());
        let master = self.master(&fingerprint, KeyName::Data(version), &keyset)?;
        master.unwrap(KeyIdentity::Data(version, &keyset), &wrapped).map_err(|error| match error {
            UnwrapError::Malformed | UnwrapError::Authentication => Error::DataKeyDamaged(version),
            _ => Error::Internal("unknown unwrap error"),
        })
    }

    /// The unwrapped index key of a keyset, and its generation.
    pub fn unwrap_index_key(&mut self, keyset: &str) -> Result<(u8, KeyBytes), Error> {
        self.masters()?;
        let rows = self.rows()?;
        let row = match rows.index_key(keyset) {
            Some(row) if row.state == KeyState::Active => row,
            Some(_) => return Err(Error::IndexKeyDestroyed(keyset.to_owned())),
            None if keyset == "default" || rows.has_keyset(keyset) => {
                return Err(Error::NoIndexKey(keyset.to_owned()));
            }
            None => return Err(Error::NoKeyset(keyset.to_owned())),
        };
        let (generation, fingerprint, wrapped) =
            (row.generation, row.master_fingerprint.clone(), row.wrapped.clone());
        let master = self.master(&fingerprint, KeyName::Index(generation), keyset)?;
        match master.unwrap(KeyIdentity::Index(generation, keyset), &wrapped) {
            Ok(key) => Ok((generation, key)),
            Err(_) => Err(Error::IndexKeyDamaged(keyset.to_owned())),
        }
    }

    /// The index key of a keyset.
    pub fn index_key(&mut self, keyset: &str) -> Result<Rc<IndexKey>, Error> {
        if let Some(key) = self.index_keys.get(keyset) {
            return Ok(Rc::clone(key));
        }
        let (generation, key) = self.unwrap_index_key(keyset)?;
        replaced::check()?;
        let key = IndexKey::new(generation, &key).map_err(|_| Error::IndexKeyDamaged(keyset.to_owned()))?;
        let key = Rc::new(key);
        self.index_keys.insert(keyset.to_owned(), Rc::clone(&key));
        Ok(key)
    }

    /// The index key of the session's keyset.
    pub fn session_index_key(&mut self) -> Result<Rc<IndexKey>, Error> {
        match &self.current_index {
            Some(key) => Ok(Rc::clone(key)),
            None => {
                let key = self.index_key(session_keyset()?)?;
                self.current_index = Some(Rc::clone(&key));
                Ok(key)
            }
        }
    }

    /// Whether a version's key belongs to the session's keyset, or is not known.
    pub fn is_of_session_keyset(&mut self, version: KeyVersion) -> Result<bool, Error> {
        match self.last_in_keyset {
            Some((known, is_in)) if known == version => Ok(is_in),
            _ => {
                let keyset = session_keyset()?;
                let is_in = self.rows()?.get(version).is_none_or(|row| row.keyset == keyset);
                self.last_in_keyset = Some((version, is_in));
                Ok(is_in)
            }
        }
    }

    /// As [`Self::index_generation`], if it was asked for the same version before.
    #[inline]
    pub fn last_generation(&self, version: KeyVersion) -> Option<Option<u8>> {
        self.last_generation.filter(|(known, _)| *known == version).map(|(_, generation)| generation)
    }

    /// The generation of the index key of the keyset that a version belongs to; `None` where that is not known.
    pub fn index_generation(&mut self, version: KeyVersion) -> Result<Option<u8>, Error> {
        match self.last_generation {
            Some((known, generation)) if known == version => Ok(generation),
            _ => {
                let generation = self.rows()?.get(version).and_then(|row| row.index_generation);
                replaced::check()?;
                self.last_generation = Some((version, generation));
                Ok(generation)
            }
        }
    }

    /// The index key to make a tag anew with, in the keyset of a version; `None` where the tag can stay.
    pub fn retagging_key(
        &mut self,
        version: KeyVersion,
        tag: SearchTag,
    ) -> Result<Option<Rc<IndexKey>>, Error> {
        if tag != SearchTag::UNMADE
            && self.index_generation(version)?.is_none_or(|last| last == tag.generation())
        {
            return Ok(None);
        }
        let keyset = self.row(version)?.keyset.clone();
        self.index_key(&keyset).map(Some)
    }

    /// The master key with a fingerprint; `key` is what it is to unwrap.
    fn master(&mut self, fingerprint: &str, key: KeyName, keyset: &str) -> Result<&MasterKey, Error> {
        let masters = self.masters()?;
        masters.iter().find(|master| master.fingerprint().to_string() == fingerprint).ok_or_else(|| {
            let loaded = masters.iter().map(|master| master.fingerprint().to_string()).collect();
            Error::KeyMismatch { key, keyset: keyset.to_owned(), expected: fingerprint.to_owned(), loaded }
        })
    }

    fn active_key(&mut self, keyset: &str) -> Result<Rc<UnlockedKey>, Error> {
        let rows = self.rows()?;
        match rows.active_version(keyset) {
            Some(version) => self.unlock(version),
            None if keyset == "default" || rows.has_keyset(keyset) => {
                Err(Error::NoDataKey(keyset.to_owned()))
            }
            None => Err(Error::NoKeyset(keyset.to_owned())),
        }
    }

    fn unlock(&mut self, version: KeyVersion) -> Result<Rc<UnlockedKey>, Error> {
        if let Some(key) = self.unlocked.get(&version) {
            return Ok(Rc::clone(key));
        }
        match self.row(version)?.state {
            KeyState::Active | KeyState::DecryptOnly => {}
            KeyState::Disabled => return Err(Error::Disabled(version)),
            KeyState::Destroyed => return Err(Error::Destroyed(version)),
        }
        let key = DataKey::new(version, &self.unwrap(version)?);
        let key = Rc::new(UnlockedKey { key, budget: self.budgets.of(version) });
        self.unlocked.insert(version, Rc::clone(&key));
        Ok(key)
    }

    /// Makes it ask again for index keys, and for the one that a value is under.
    pub fn forget_index_keys(&mut self) {
        self.index_keys.clear();
        self.current_index = None;
        self.last_generation = None;
    }

    /// Drops every unlocked data key.
    fn lock(&mut self) {
        self.unlocked.clear();
        self.current = None;
        self.last_opened = None;
        self.last_resealed = None;
        self.forget_index_keys();
        self.last_in_keyset = None;
        self.opened.clear();
        self.texts.clear();
    }
}

/// Changes whenever a setting of the master keys does, or the configuration is reloaded.
fn masters_as_of() -> (u64, i64) {
    (settings::master_generation(), settings::config_generation())
}

fn session_keyset() -> Result<&'static str, Error> {
    settings::keyset().to_str().map_err(|_| Error::Internal("keyset is not text"))
}
