//! The keyring: master keys, data keys, index keys, and a backend's cache of them. The rest of the extension uses
//! [`seal`], [`open`] and [`reseal`], and `search_tags` to search.
//!
//! 1. `table` reads the key rows (through `own_table`), and `invalidation` notices when they change.
//! 2. `sources` reads the master keys.
//! 3. `cache` unlocks keys when a value needs them, and drops them when something changes.
//! 4. `budget` counts what a key seals (`usage` handles the row on disk); `transaction` wipes nonces when a transaction ends.
//! 5. `replaced` stops transactions that used an index key which has been replaced since; `locks` has the locks for that.
//! 6. `tag_cache` remembers the search tags of values that carry none.
//! 7. `admin` wraps keys for key administration; `carried` puts them into dumps.

mod admin;
mod budget;
mod cache;
mod carried;
mod invalidation;
mod locks;
mod own_table;
mod replaced;
pub mod search_tags;
mod sources;
mod table;
mod tag_cache;
mod transaction;
mod usage;

use crate::error::Error;
use crate::interrupts;
use crate::varlena::Varlena;
use cache::Keyring;
use prism_envelope::{Attributes, ContextHash, Envelope, KeyVersion, SearchTag};
use std::cell::RefCell;
use zeroize::Zeroize;

pub use admin::{unwrap_file_key, wrap_file_key};
pub use budget::{SEAL_LIMIT, SEAL_WARNING};
pub use invalidation::relations_as_of;
use invalidation::{accept_messages, accept_messages_unwinding};
pub use replaced::before_build;
pub use table::{KeyRow, KeyState};
use transaction::nonce_owner;

thread_local! {
    static KEYRING: RefCell<Keyring> = const { RefCell::new(Keyring::new()) };
}

/// Runs `use_keyring` with the keyring of this backend, up to date with what other sessions committed. Neither the
/// caller nor its callers may hold anything that has to be dropped: see [`accept_messages`].
#[inline]
fn with_keyring<T>(use_keyring: impl FnOnce(&mut Keyring) -> Result<T, Error>) -> Result<T, Error> {
    // A message may make PostgreSQL read its catalogs.
    if !interrupts::are_held_off() {
        accept_messages();
    }
    refreshed(use_keyring)
}

/// The same for callers that may hold something to drop.
fn with_keyring_unwinding<T>(use_keyring: impl FnOnce(&mut Keyring) -> Result<T, Error>) -> Result<T, Error> {
    if !interrupts::are_held_off() {
        accept_messages_unwinding();
    }
    refreshed(use_keyring)
}

#[inline]
fn refreshed<T>(use_keyring: impl FnOnce(&mut Keyring) -> Result<T, Error>) -> Result<T, Error> {
    KEYRING.with(|keyring| {
        let mut keyring = keyring.try_borrow_mut().map_err(|_| Error::Internal("the keyring is in use"))?;
        keyring.refresh();
        use_keyring(&mut keyring)
    })
}

/// Whether everything that index code may need is loaded and up to date. Then [`prepare`] has nothing to do.
#[inline]
pub fn is_ready() -> bool {
    KEYRING.with(|keyring| keyring.try_borrow().is_ok_and(|keyring| keyring.is_ready()))
}

/// Loads what comparisons may need while an index page is locked and nothing can be loaded: the key tables and the master keys.
///
/// It is no error if something can't be loaded. Only a cancel is one: the key source may be a slow command.
pub fn prepare() {
    if !is_ready() && !interrupts::are_held_off() {
        // Fails only if a call further up is using the keyring.
        let _ = with_keyring(|keyring| {
            keyring.prepare();
            Ok(())
        });
    }
}

/// Seals a plaintext under the active key of a keyset; `None` is the session's keyset. If the attributes have a search
/// tag, it is made here.
pub fn seal(keyset: Option<&str>, attributes: &Attributes, plaintext: &[u8]) -> Result<Varlena, Error> {
    let mut out = Varlena::new(attributes.envelope_len(plaintext.len()))?;
    with_keyring(|keyring| {
        let mut attributes = *attributes;
        if attributes.search_tag.is_some() {
            let index_key = match keyset {
                Some(keyset) => keyring.index_key(keyset)?,
                None => keyring.session_index_key()?,
            };
            attributes.search_tag = Some(index_key.search_tag(plaintext));
        }
        let (key, nonces) = keyring.sealing_key(keyset)?;
        key.seal_into(nonces, nonce_owner(), &attributes, plaintext, out.bytes_mut())
            .map_err(|error| Error::seal(key.version(), error))
    })?;
    Ok(out)
}

/// Opens a value. The context must be the one it was sealed with.
pub fn open(envelope: &Envelope<'_>, context: Option<&ContextHash>) -> Result<Varlena, Error> {
    let mut out = Varlena::new(envelope.plaintext_len())?;
    with_keyring(|keyring| {
        keyring
            .opening_key(envelope.key_version())?
            .open_into(envelope, context, out.bytes_mut())
            .map_err(|error| Error::open(envelope.key_version(), error))
    })?;
    Ok(out)
}

/// Seals a plaintext under the active key of the session's keyset, without a search tag, if nothing has to be loaded or counted
/// for it. `None` says only that [`seal`] knows more. Neither the caller nor its callers may hold anything that has to be
/// dropped; nothing here raises an error itself.
#[inline]
pub fn seal_if_ready(attributes: &Attributes, plaintext: &[u8]) -> Option<Varlena> {
    with_ready_keyring(|keyring| {
        let (key, nonces) = keyring.ready_sealing_key()?;
        let mut out = Varlena::if_possible(attributes.envelope_len(plaintext.len()))?;
        key.seal_into(nonces, nonce_owner(), attributes, plaintext, out.bytes_mut()).ok()?;
        Some(out)
    })
}

/// Opens a value that is bound to no context, likewise.
#[inline]
pub fn open_if_ready(envelope: &Envelope<'_>) -> Option<Varlena> {
    with_ready_keyring(|keyring| {
        let key = keyring.ready_opening_key(envelope.key_version())?;
        let mut out = Varlena::if_possible(envelope.plaintext_len())?;
        key.open_into(envelope, None, out.bytes_mut()).ok()?;
        Some(out)
    })
}

#[inline]
fn with_ready_keyring<T>(use_keyring: impl FnOnce(&mut Keyring) -> Option<T>) -> Option<T> {
    if interrupts::are_held_off() {
        return None;
    }
    accept_messages();
    KEYRING.with(|keyring| {
        let mut keyring = keyring.try_borrow_mut().ok()?;
        keyring.refresh();
        use_keyring(&mut keyring)
    })
}

/// Opens a value, whatever its context, and seals it under the active key of its own keyset with these attributes. If
/// their search tag is unmade or outdated, a new one is made.
pub fn reseal(envelope: &Envelope<'_>, attributes: &Attributes) -> Result<Varlena, Error> {
    let mut out = Varlena::new(attributes.envelope_len(envelope.plaintext_len()))?;
    let version = envelope.key_version();
    with_keyring(|keyring| {
        let index_key = match attributes.search_tag {
            Some(tag) => keyring.retagging_key(version, tag)?,
            None => None,
        };
        let (old, new, nonces) = keyring.resealing_keys(version)?;
        let (index_key, out) = (index_key.as_deref(), out.bytes_mut());
        new.reseal_into(nonces, nonce_owner(), &old, envelope, attributes, index_key, out)
            .map_err(|error| Error::seal(version, error))
    })?;
    Ok(out)
}

/// Whether a value can be opened, whatever its context. Nothing of it is kept, and nothing is sealed.
pub fn check(envelope: &Envelope<'_>) -> Result<(), Error> {
    with_scratch(envelope.plaintext_len(), |scratch| {
        with_keyring(|keyring| {
            keyring
                .opening_key(envelope.key_version())?
                .open_into(envelope, envelope.context().as_ref(), scratch)
                .map_err(|error| Error::open(envelope.key_version(), error))
        })
    })
}

/// Runs `use_scratch` with room for a plaintext of `length` bytes, which is wiped afterwards.
fn with_scratch<T>(
    length: usize,
    use_scratch: impl FnOnce(&mut [u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut scratch = Varlena::new(length)?;
    let result = use_scratch(scratch.bytes_mut());
    scratch.bytes_mut().zeroize();
    scratch.free();
    result
}

/// Gives `judge` the row of a version; `None` if there is no such key. Needs no master key.
pub fn with_row<T>(version: KeyVersion, judge: impl FnOnce(Option<&KeyRow>) -> T) -> Result<T, Error> {
    with_keyring(|keyring| Ok(judge(keyring.rows()?.get(version))))
}

/// Whether a value is known to be under the active key of its keyset, with no outdated search tag, where that takes no look at the
/// key table.
#[inline]
pub fn is_current_if_read(version: KeyVersion, tag: Option<SearchTag>) -> bool {
    with_keyring(|keyring| Ok(keyring.is_current(version, tag))).unwrap_or(false)
}

/// As [`with_row`], for callers that may hold something.
pub fn with_row_unwinding<T>(
    version: KeyVersion,
    judge: impl FnOnce(Option<&KeyRow>) -> T,
) -> Result<T, Error> {
    with_keyring_unwinding(|keyring| Ok(judge(keyring.rows()?.get(version))))
}

/// Fingerprints of the master keys that are set; the first one wraps.
pub fn master_fingerprints() -> Result<Vec<String>, Error> {
    with_keyring_unwinding(|keyring| {
        Ok(keyring.masters()?.iter().map(|master| master.fingerprint().to_string()).collect())
    })
}

/// The active key versions with their keysets. Needs no master key.
pub fn active_versions() -> Result<Vec<(String, KeyVersion)>, Error> {
    with_keyring_unwinding(|keyring| {
        Ok(keyring.rows()?.active().map(|(keyset, version)| (keyset.to_owned(), version)).collect())
    })
}

/// The keysets with an active key, and at most how many values that key has sealed; `None` if that is not counted.
/// Needs no master key.
pub fn seal_counts() -> Result<Vec<(String, Option<u64>)>, Error> {
    with_keyring_unwinding(|keyring| {
        let rows = keyring.rows()?;
        let counts = rows.usage_table().map(usage::read).transpose()?.unwrap_or_default();
        Ok(rows
            .active()
            .map(|(keyset, version)| (keyset.to_owned(), counts.get(&version.get()).copied()))
            .collect())
    })
}

/// Fails unless the key of this version can be unlocked with the master keys that are set.
pub fn can_unlock(version: KeyVersion) -> Result<(), Error> {
    with_keyring_unwinding(|keyring| keyring.opening_key(version).map(drop))
}
