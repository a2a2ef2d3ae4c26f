//! The parts of key administration that need key material, called by our SQL functions. Roles may call only
//! `generate_key` and `_replace_index_key` directly.
//!
//! Functions that return a row spell out the return type, because pgrx reads it and resolves no alias.

use super::cache::Keyring;
use super::table::KeyState;
use super::{with_keyring, with_keyring_unwinding};
use crate::datum::TextResult;
use crate::error::{Error, KeyName};
use crate::identity::AsOwner;
use crate::keyring::nonce_owner;
use crate::privilege::{self, Right};
use crate::settings;
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::{KeyBytes, KeyIdentity, KeyVersion, WRAPPED_LEN};

/// A wrapped key, and the fingerprint of the master key that wrapped it.
pub type Wrapped = ([u8; WRAPPED_LEN], String);

/// `prism_crypt._wrap_new_key(version integer, keyset text)`: makes a data key and wraps it (93 bytes) under the first
/// master key. The keyset's active key, if there is one, must be unlockable: otherwise a session with another master
/// key would split the keyset in two.
#[pg_extern(sql = false)]
fn _wrap_new_key(
    version: i32,
    keyset: &str,
) -> Result<TableIterator<'static, (name!(wrapped, Vec<u8>), name!(master_fingerprint, String))>, ErrorReport>
{
    let version = key_version(version)?;
    keep_version();
    let (wrapped, fingerprint) = with_keyring(|keyring| {
        if let Some(active) = keyring.rows()?.active_version(keyset) {
            keyring.opening_key(active)?;
        }
        wrap(keyring, KeyIdentity::Data(version, keyset), &KeyBytes::generate()?)
    })?;
    Ok(TableIterator::once((wrapped.to_vec(), fingerprint)))
}

/// `prism_crypt._rewrap_key(version integer)`: rewraps a data key under the first master key.
#[pg_extern(sql = false)]
fn _rewrap_key(
    version: i32,
) -> Result<TableIterator<'static, (name!(wrapped, Vec<u8>), name!(master_fingerprint, String))>, ErrorReport>
{
    let version = key_version(version)?;
    let (wrapped, fingerprint) = with_keyring(|keyring| {
        let key = keyring.unwrap(version)?;
        let keyset = keyring.row(version)?.keyset.clone();
        wrap(keyring, KeyIdentity::Data(version, &keyset), &key)
    })?;
    Ok(TableIterator::once((wrapped.to_vec(), fingerprint)))
}

/// `prism_crypt._wrap_new_index_key(generation integer, keyset text)`: makes an index key and wraps it (93 bytes) under
/// the first master key. The keyset's index key, if there is one, must be unlockable.
#[pg_extern(sql = false)]
fn _wrap_new_index_key(
    generation: i32,
    keyset: &str,
) -> Result<TableIterator<'static, (name!(wrapped, Vec<u8>), name!(master_fingerprint, String))>, ErrorReport>
{
    let generation = u8::try_from(generation).map_err(|_| Error::OutOfRange("generation"))?;
    let (wrapped, fingerprint) = with_keyring(|keyring| {
        if keyring.rows()?.index_key(keyset).is_some_and(|key| key.state == KeyState::Active) {
            keyring.index_key(keyset)?;
        }
        wrap(keyring, KeyIdentity::Index(generation, keyset), &KeyBytes::generate()?)
    })?;
    Ok(TableIterator::once((wrapped.to_vec(), fingerprint)))
}

/// `prism_crypt._rewrap_index_key(keyset text)`: rewraps the index key of a keyset under the first master key.
#[pg_extern(sql = false)]
fn _rewrap_index_key(
    keyset: &str,
) -> Result<TableIterator<'static, (name!(wrapped, Vec<u8>), name!(master_fingerprint, String))>, ErrorReport>
{
    let (wrapped, fingerprint) = with_keyring(|keyring| {
        let (generation, key) = keyring.unwrap_index_key(keyset)?;
        wrap(keyring, KeyIdentity::Index(generation, keyset), &key)
    })?;
    Ok(TableIterator::once((wrapped.to_vec(), fingerprint)))
}

/// `prism_crypt._require_unlockable(keyset text)`: fails unless the session's master keys unlock the keyset's active
/// key. Otherwise a session with another master key would split the keyset in two. The index key may be damaged,
/// because it is about to be replaced.
#[pg_extern(sql = false)]
fn _require_unlockable(keyset: &str) -> Result<(), ErrorReport> {
    with_keyring(|keyring| match keyring.rows()?.active_version(keyset) {
        Some(active) => keyring.opening_key(active).map(drop),
        None => Ok(()),
    })?;
    Ok(())
}

/// `prism_crypt._replace_index_key(keyset text, reason text, force boolean) → integer`: the part of
/// `rotate_index_key()` that is one transaction, run as the extension's owner. Requires the right to rotate, as that
/// procedure does.
#[pg_extern(sql = false)]
fn _replace_index_key(
    keyset: Option<&str>,
    reason: Option<&str>,
    force: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<i32>, ErrorReport> {
    if !privilege::may(Right::Rotate) {
        return Err(Error::RotateDenied.into());
    }
    let _owner = AsOwner::of(privilege::function_oid(fcinfo))?;
    let call = "SELECT prism_crypt._make_next_index_key($1, $2, $3)";
    let generation = Spi::connect_mut(|client| {
        let arguments = [keyset.into(), reason.into(), force.into()];
        client.update(call, Some(1), &arguments)?.first().get_one::<i32>()
    });
    Ok(generation.map_err(|_| Error::Internal("the index key can't be replaced"))?)
}

/// `generate_key()`: a new master key for the caller to keep; nothing of it is kept here.
#[pg_extern(sql = false)]
fn generate_key() -> Result<
    TableIterator<'static, (name!(key, TextResult), name!(key_bytes, i32), name!(algorithm, &'static str))>,
    ErrorReport,
> {
    let key = KeyBytes::generate().map_err(Error::from)?.to_hex();
    Ok(TableIterator::once((TextResult(Varlena::copy_of(key.as_bytes())?), 32, "AES-256-GCM")))
}

/// Wraps the key of a file under the first master key; also gives that one's fingerprint.
pub fn wrap_file_key(key: &KeyBytes) -> Result<Wrapped, Error> {
    with_keyring_unwinding(|keyring| wrap(keyring, KeyIdentity::File, key))
}

/// The key of a file, which the master key with that fingerprint has wrapped.
pub fn unwrap_file_key(fingerprint: &str, wrapped: &[u8]) -> Result<KeyBytes, Error> {
    with_keyring_unwinding(|keyring| {
        let master = keyring.master(fingerprint, KeyName::File, None)?;
        master.unwrap(KeyIdentity::File, wrapped).map_err(|_| Error::FileAuthentication)
    })
}

/// Wraps a key under the first master key. A session may set a master key that nobody else has, and then call a
/// function owned by somebody who may make keys. So a master key that wraps nothing yet is accepted from key
/// administrators only.
fn wrap(keyring: &mut Keyring, identity: KeyIdentity<'_>, key: &KeyBytes) -> Result<Wrapped, Error> {
    let fingerprint = keyring.wrapping_key()?.0.fingerprint().to_string();
    if let Some(role) = settings::master_key_chosen_by()
        && !keyring.rows()?.has_master(&fingerprint)
        && !privilege::may_role(Right::AdministerKeys, role)
    {
        return Err(Error::ForeignMasterKey);
    }
    let (master, nonces) = keyring.wrapping_key()?;
    let wrapped = master.wrap(nonces, nonce_owner(), identity, key)?;
    Ok((wrapped, fingerprint))
}

/// Makes the new value of the version sequence durable before anything is sealed under it. Otherwise the version could
/// be given again after a crash, although values that the lost transaction sealed may have left the server. The caller
/// has written WAL since `nextval()` (it locked the keyset's row), so flushing up to its own last record is enough.
fn keep_version() {
    // SAFETY: `XactLastRecEnd` is the end of this transaction's last, completely written record; 0 if there is none.
    unsafe {
        if pg_sys::XactLastRecEnd != 0 {
            pg_sys::XLogFlush(pg_sys::XactLastRecEnd);
        }
    }
}

fn key_version(number: i32) -> Result<KeyVersion, Error> {
    let version = u32::try_from(number).ok().and_then(KeyVersion::new);
    version.ok_or(Error::OutOfRange("version"))
}
