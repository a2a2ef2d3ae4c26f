//! Search tags, by which values are compared, also of values that carry none.
//!
//! A value's tag is made with the latest index key of its keyset. Keysets have different index keys, so equal tags mean
//! the same keyset and the same plaintext (except with a probability of 2^-128).

use super::table::KeyState;
use super::{tag_cache, with_keyring, with_scratch};
use crate::error::Error;
use prism_envelope::{Envelope, KeyVersion, SearchTag};
use std::rc::Rc;

/// The tag that a value of this version carries, if it was made with the latest index key. Needs no master key.
///
/// If nothing is known about the value's key, as on a subscriber without keys, the tag is accepted as it is.
#[inline]
pub fn carried_tag(version: KeyVersion, tag: SearchTag) -> Result<Option<SearchTag>, Error> {
    with_keyring(|keyring| {
        let last = keyring.index_generation(version)?;
        Ok(last.is_none_or(|last| last == tag.generation()).then_some(tag))
    })
}

/// [`carried_tag`], if that doesn't need a look at the key table.
#[inline]
pub fn carried_tag_if_read(version: KeyVersion, tag: SearchTag) -> Option<SearchTag> {
    let known = with_keyring(|keyring| Ok(keyring.last_generation(version))).ok()??;
    known.is_none_or(|last| last == tag.generation()).then_some(tag)
}

/// The tag of a value, if it was made recently.
#[inline]
pub fn known_tag(bytes: &[u8]) -> Result<Option<SearchTag>, Error> {
    if bytes.len() > tag_cache::MAX_LEN {
        return Ok(None);
    }
    with_keyring(|keyring| Ok(keyring.opened.get(bytes)))
}

/// Opens a value, whatever its context, and makes its tag.
pub fn make_tag(bytes: &[u8], envelope: &Envelope<'_>) -> Result<SearchTag, Error> {
    let version = envelope.key_version();
    with_scratch(envelope.plaintext_len(), |scratch| {
        with_keyring(|keyring| {
            let key = Rc::clone(keyring.opening_key(version)?);
            let index_key = keyring.index_key_of(version)?;
            key.open_into(envelope, envelope.context().as_ref(), scratch)
                .map_err(|error| Error::open(version, error))?;
            let tag = index_key.search_tag(scratch);
            keyring.opened.put(bytes, tag);
            Ok(tag)
        })
    })
}

/// The tag of a UTF-8 text in the session's keyset.
pub fn tag_of_text(text: &[u8]) -> Result<SearchTag, Error> {
    with_keyring(|keyring| {
        if let Some(known) = keyring.texts.get(text) {
            return Ok(known);
        }
        let tag = keyring.session_index_key()?.search_tag(text);
        keyring.texts.put(text, tag);
        Ok(tag)
    })
}

/// The blind index of a UTF-8 value in the session's keyset.
pub fn blind_index(value: &[u8], context: Option<&[u8]>, bits: usize) -> Result<Vec<u8>, Error> {
    with_keyring(|keyring| {
        keyring.session_index_key()?.blind_index(value, context, bits).ok_or(Error::BlindIndexBits)
    })
}

/// Whether it is known if a tag of this version is outdated.
pub fn is_index_key_known(version: KeyVersion) -> Result<bool, Error> {
    with_keyring(|keyring| {
        let row = keyring.rows()?.get(version);
        Ok(row.is_some_and(|row| row.index_generation.is_some() || row.state == KeyState::Destroyed))
    })
}

/// Whether the keys of two versions are known, and belong to different keysets.
pub fn are_of_different_keysets(one: KeyVersion, other: KeyVersion) -> Result<bool, Error> {
    if one == other {
        return Ok(false);
    }
    with_keyring(|keyring| {
        let rows = keyring.rows()?;
        Ok(rows.get(one).zip(rows.get(other)).is_some_and(|(one, other)| one.keyset != other.keyset))
    })
}

/// Whether a version's key belongs to the session's keyset, or is not known.
pub fn is_of_session_keyset(version: KeyVersion) -> Result<bool, Error> {
    with_keyring(|keyring| keyring.is_of_session_keyset(version))
}

/// Whether a tag has another generation than its keyset's current index key, and there is an active key to reseal the
/// value with, which there isn't while a dump is restored. Needs no master key.
pub fn is_outdated(version: KeyVersion, tag: SearchTag) -> Result<bool, Error> {
    if carried_tag(version, tag)?.is_some() {
        return Ok(false);
    }
    with_keyring(|keyring| {
        let rows = keyring.rows()?;
        Ok(rows.get(version).is_some_and(|row| rows.active_version(&row.keyset).is_some()))
    })
}
