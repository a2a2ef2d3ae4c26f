//! Search hashes: what values are compared by. A value has the same one whether it carries a search tag or not.
//!
//! It is the keyed hash of a search tag under the last index key of the value's keyset. Keysets have different index keys,
//! so equal hashes are of one keyset and one plaintext (but for a chance of 2^-128).

use super::with_keyring;
use crate::error::Error;
use crate::varlena::Varlena;
use prism_envelope::{Envelope, KeyVersion, SearchTag};
use std::rc::Rc;
use zeroize::Zeroize;

/// The keyed hash of a search tag.
pub type SearchHash = [u8; SearchTag::HASH_LEN];

/// The search hash of a value with this tag, if it can be told from that. Needs no master key.
///
/// A tag of an earlier generation can't tell. Where nothing is known of the value's key, as on a subscriber that has none of
/// the keys, the tag has to do.
#[inline]
pub fn hash_of_tag(version: KeyVersion, tag: SearchTag) -> Result<Option<SearchHash>, Error> {
    with_keyring(|keyring| {
        let generation = keyring.index_generation(version)?;
        Ok(generation.is_none_or(|generation| generation == tag.generation()).then(|| *tag.hash()))
    })
}

/// The search hash of a value, which is opened for it, whatever its context.
pub fn hash_of_value(bytes: &[u8], envelope: &Envelope<'_>) -> Result<SearchHash, Error> {
    let version = envelope.key_version();
    if let Some(known) = with_keyring(|keyring| Ok(keyring.opened.get(bytes)))? {
        return Ok(known);
    }
    let mut scratch = Varlena::new(envelope.plaintext_len())?;
    let hash = with_keyring(|keyring| {
        let keyset = keyring.row(version)?.keyset.clone();
        let key = Rc::clone(keyring.opening_key(version)?);
        let index_key = keyring.index_key(&keyset)?;
        key.open_into(envelope, envelope.attributes().context.as_ref(), scratch.bytes_mut())
            .map_err(|error| Error::open(version, error))?;
        let hash = *index_key.search_tag(scratch.bytes()).hash();
        keyring.opened.put(bytes, hash);
        Ok(hash)
    });
    scratch.bytes_mut().zeroize();
    scratch.free();
    hash
}

/// The search hash that a text in UTF-8 has in the session's keyset.
pub fn hash_of_text(text: &[u8]) -> Result<SearchHash, Error> {
    with_keyring(|keyring| {
        if let Some(known) = keyring.texts.get(text) {
            return Ok(known);
        }
        let hash = *keyring.session_index_key()?.search_tag(text).hash();
        keyring.texts.put(text, hash);
        Ok(hash)
    })
}

/// The blind index of a value in UTF-8 under the session's keyset.
pub fn blind_index(value: &[u8], context: Option<&[u8]>, bits: usize) -> Result<Vec<u8>, Error> {
    with_keyring(|keyring| {
        keyring.session_index_key()?.blind_index(value, context, bits).ok_or(Error::BlindIndexBits)
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

/// Whether a tag is of another generation than its keyset's index key has by now. Needs no master key.
pub fn is_outdated(version: KeyVersion, tag: SearchTag) -> Result<bool, Error> {
    hash_of_tag(version, tag).map(|hash| hash.is_none())
}
