//! The part of a backend's keyring for searching: index keys, and the generation that a value's tag should have.

use super::{Keyring, session_keyset};
use crate::error::{Error, KeyName};
use crate::keyring::replaced;
use crate::keyring::table::KeyState;
use prism_envelope::{IndexKey, KeyBytes, KeyIdentity, KeyVersion, SearchTag};
use std::rc::Rc;

impl Keyring {
    /// The unwrapped index key of a keyset, and its generation.
    pub fn unwrap_index_key(&mut self, keyset: &str) -> Result<(u8, KeyBytes), Error> {
        self.masters()?;
        let rows = self.rows()?;
        let row = match rows.index_key(keyset) {
            Some(row) if row.state == KeyState::Active => row,
            Some(_) => return Err(Error::IndexKeyDestroyed(keyset.to_owned())),
            None => return Err(rows.want_of_key(keyset, Error::NoIndexKey)),
        };
        let (generation, fingerprint, wrapped) =
            (row.generation, row.master_fingerprint.clone(), row.wrapped.clone());
        let master = self.master(&fingerprint, KeyName::Index(generation), Some(keyset))?;
        match master.unwrap(KeyIdentity::Index(generation, keyset), &wrapped) {
            Ok(key) => Ok((generation, key)),
            Err(_) => Err(Error::IndexKeyDamaged(keyset.to_owned())),
        }
    }

    /// The index key of a keyset.
    pub fn index_key(&mut self, keyset: &str) -> Result<Rc<IndexKey>, Error> {
        if let Some(key) = self.index_keys.get(keyset) {
            replaced::check()?;
            return Ok(Rc::clone(key));
        }
        let (generation, key) = self.unwrap_index_key(keyset)?;
        replaced::check()?;
        let key = IndexKey::new(generation, &key).map_err(|_| Error::IndexKeyDamaged(keyset.to_owned()))?;
        let key = Rc::new(key);
        self.index_keys.insert(keyset.to_owned(), Rc::clone(&key));
        Ok(key)
    }

    /// The index key of the keyset that a version belongs to.
    pub fn index_key_of(&mut self, version: KeyVersion) -> Result<Rc<IndexKey>, Error> {
        self.rows()?;
        let row =
            self.rows.as_ref().and_then(|rows| rows.get(version)).ok_or(Error::UnknownVersion(version))?;
        // Nothing is copied for a key that is known: this is asked for each value.
        if let Some(key) = self.index_keys.get(&row.keyset) {
            return replaced::check().map(|()| Rc::clone(key));
        }
        let keyset = row.keyset.clone();
        self.index_key(&keyset)
    }

    /// The index key of the session's keyset.
    pub fn session_index_key(&mut self) -> Result<Rc<IndexKey>, Error> {
        self.index_key(session_keyset()?)
    }

    /// Whether a version's key belongs to the session's keyset, or is not known.
    pub fn is_of_session_keyset(&mut self, version: KeyVersion) -> Result<bool, Error> {
        let keyset = session_keyset()?;
        Ok(self.rows()?.get(version).is_none_or(|row| row.keyset == keyset))
    }

    /// [`Self::index_generation`], if it was last asked for the same version.
    #[inline]
    pub fn last_generation(&self, version: KeyVersion) -> Option<Option<u8>> {
        let (_, generation) = self.last_generation.filter(|(known, _)| *known == version)?;
        replaced::check().ok().map(|()| generation)
    }

    /// The generation of the index key of the keyset that a version belongs to; `None` if that is not known.
    pub fn index_generation(&mut self, version: KeyVersion) -> Result<Option<u8>, Error> {
        let generation = match self.last_generation {
            Some((known, generation)) if known == version => generation,
            _ => self.rows()?.get(version).and_then(|row| row.index_generation),
        };
        self.last_generation = Some((version, generation));
        replaced::check()?;
        Ok(generation)
    }

    /// The index key of a version's keyset, to make a new tag with; `None` if the tag can stay.
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
        self.index_key_of(version).map(Some)
    }
}
