//! The parts of key administration that need key material. `sql/keys/admin.sql` calls them; no role may do so directly.
//!
//! Return types are written out where a row is returned: pgrx reads them, and sees through no alias.

use super::cache::Keyring;
use super::table::KeyState;
use super::with_keyring;
use crate::datum::TextResult;
use crate::error::Error;
use crate::identity::AsOwner;
use crate::keyring::nonce_owner;
use crate::privilege::{self, Right};
use crate::settings;
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::{KeyBytes, KeyIdentity, KeyVersion, WRAPPED_LEN};

/// A wrapped key, and the fingerprint of the master key that wrapped it.
type Wrapped = ([u8; WRAPPED_LEN], String);

/// `prism_crypt._wrap_new_key(version integer, keyset text)`: makes a data key, 61 bytes once wrapped, under the first
/// master key. The keyset's active key, if it has one, must be unlockable: a session with another master key would
/// otherwise cut the keyset in two.
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

/// `prism_crypt._rewrap_key(version integer)`: the data key of a version, wrapped anew under the first master key.
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

/// `prism_crypt._wrap_new_index_key(generation integer, keyset text)`: makes an index key, 61 bytes once wrapped, under the
/// first master key. The keyset's index key, if it has one, must be unlockable.
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

/// `prism_crypt._rewrap_index_key(keyset text)`: the index key of a keyset, wrapped anew under the first master key.
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

/// `prism_crypt._require_unlockable(keyset text)`: an error unless the session's master keys unlock the active key of a keyset. A
/// session with another master key would otherwise cut the keyset in two. An index key may be damaged: it is to be replaced.
#[pg_extern(sql = false)]
fn _require_unlockable(keyset: &str) -> Result<(), ErrorReport> {
    with_keyring(|keyring| match keyring.rows()?.active_version(keyset) {
        Some(active) => keyring.opening_key(active).map(drop),
        None => Ok(()),
    })?;
    Ok(())
}

/// `prism_crypt._replace_index_key(keyset text, reason text, force boolean) → integer`: what `rotate_index_key()` does in one
/// transaction, in the name of the extension's owner. Asks for the right to rotate, as that procedure does.
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

/// `generate_key()`: a new master key for the caller to keep; nothing of it stays here.
#[pg_extern(sql = false)]
fn generate_key() -> Result<
    TableIterator<'static, (name!(key, TextResult), name!(key_bytes, i32), name!(algorithm, &'static str))>,
    ErrorReport,
> {
    let key = KeyBytes::generate().map_err(Error::from)?.to_hex();
    Ok(TableIterator::once((TextResult(Varlena::copy_of(key.as_bytes())?), 32, "AES-256-GCM")))
}

/// Wraps a key under the first master key. A session may set one that nobody else has, and then call a function of somebody who
/// may make keys: a master key that wraps nothing yet is taken from key administrators only.
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

/// Makes the sequence's step durable before anything is sealed under the new version: after a crash the version would
/// otherwise be given again, and what the unfinished transaction sealed may have left the server. The caller has written
/// to the log since it took the step (it locked the keyset's row), so flushing its own last record is enough.
fn keep_version() {
    // SAFETY: the end of this transaction's last record, which was written completely; 0 where there is none.
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
