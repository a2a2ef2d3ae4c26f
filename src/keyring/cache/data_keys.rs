//! Data keys of a backend's keyring: unlocked when the first value needs one. Each sealed value is counted.

use super::{Keyring, session_keyset};
use crate::error::{Error, KeyName};
use crate::keyring::budget::Budget;
use crate::keyring::table::KeyState;
use prism_envelope::{DataKey, KeyBytes, KeyIdentity, KeyVersion, NoncePool, UnwrapError};
use std::ops::Deref;
use std::rc::Rc;

/// An unlocked data key, and how much may be sealed with it.
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

impl Keyring {
    /// The active key of a keyset (`None`: the session's), and the nonces to seal with. Counts one value.
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

    /// [`sealing_key`](Self::sealing_key) of the session's keyset, if nothing has to be loaded or reserved for it.
    #[inline]
    pub fn ready_sealing_key(&mut self) -> Option<(&DataKey, &mut NoncePool)> {
        let key = self.current.as_deref().filter(|key| key.budget.take())?;
        Some((key, &mut self.nonces))
    }

    /// [`opening_key`](Self::opening_key), if nothing has to be loaded for it.
    #[inline]
    pub fn ready_opening_key(&self, version: KeyVersion) -> Option<&DataKey> {
        self.last_opened.as_deref().filter(|key| key.version() == version).map(Deref::deref)
    }

    /// The key of a version, if values of that version may be read.
    pub fn opening_key(&mut self, version: KeyVersion) -> Result<&Rc<UnlockedKey>, Error> {
        if self.last_opened.as_ref().is_none_or(|key| key.version() != version) {
            self.last_opened = Some(self.unlock(version)?);
        }
        self.last_opened.as_ref().ok_or(Error::UnknownVersion(version))
    }

    /// The key of a version, the active key of the same keyset, and the nonces to seal with. Counts one value.
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

    /// The unwrapped key of a version, not expanded.
    pub fn unwrap(&mut self, version: KeyVersion) -> Result<KeyBytes, Error> {
        self.masters()?;
        let row = self.row(version)?;
        let (keyset, fingerprint, wrapped) =
            (row.keyset.clone(), row.master_fingerprint.clone(), row.wrapped.clone());
        let master = self.master(&fingerprint, KeyName::Data(version), Some(&keyset))?;
        master.unwrap(KeyIdentity::Data(version, &keyset), &wrapped).map_err(|error| match error {
            UnwrapError::Malformed | UnwrapError::Authentication => Error::DataKeyDamaged(version),
            _ => Error::Internal("unknown unwrap error"),
        })
    }

    fn active_key(&mut self, keyset: &str) -> Result<Rc<UnlockedKey>, Error> {
        let rows = self.rows()?;
        match rows.active_version(keyset) {
            Some(version) => self.unlock(version),
            None => Err(rows.want_of_key(keyset, Error::NoDataKey)),
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
}
