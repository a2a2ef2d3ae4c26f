//! What a rotation asks about a value of any type: a single value, an array, a composite type, a domain over them.

use super::values::{is_rotatable, reencrypt_or_keep, rotation_error};
use super::{Scope, Verdict};
use crate::datatype::nested;
use crate::datum::{Bytea, Payload};
use crate::error::{Error, SqlResult};
use crate::jobs::note_unreadable;
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::AnyElement;
use pgrx::prelude::*;
use prism_envelope::Envelope;

/// `prism_crypt._is_rotatable(value anyelement, from_version integer, keyset text) → boolean`: whether it is or holds a
/// value in this scope that is under an old but readable key, or has an outdated search tag.
#[pg_extern(sql = false)]
fn _is_rotatable(
    value: Option<AnyElement>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let Some(value) = value else { return Ok(false) };
    let scope = Scope { from_version, keyset };
    if let Some(bytes) = bytes_of(&value) {
        let Ok(envelope) = bytes.envelope() else { return Ok(false) };
        return Ok(is_rotatable(Ok(envelope.key_version()), envelope.attributes().search_tag, scope)?);
    }
    let mut found = false;
    // SAFETY: PostgreSQL passes a value of the type that the call expression has, and it is not null.
    unsafe {
        nested::visit(value.datum(), type_of(&value)?, &mut |leaf| {
            found |= !leaf.is_bytes() && is_rotatable(leaf.key_version(), leaf.search_tag(), scope)?;
            Ok(())
        })?;
    }
    Ok(found)
}

/// `prism_crypt._can_rotate(value anyelement, from_version integer, keyset text) → boolean`: whether it is or holds a
/// value that is rotatable and can be opened.
#[pg_extern(sql = false)]
fn _can_rotate(
    value: Option<AnyElement>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let found = errors_in(value, Scope { from_version, keyset })?;
    if found.first_error.is_some() {
        note_unreadable();
    }
    Ok(found.is_any_without)
}

/// `prism_crypt._rotation_error(value anyelement, from_version integer, keyset text) → text`: why a value in this scope
/// can't be re-encrypted; empty if it can, null if it need not be. If it holds several, the first problem.
#[pg_extern(sql = false)]
fn _rotation_error(
    value: Option<AnyElement>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<Option<String>> {
    let found = errors_in(value, Scope { from_version, keyset })?;
    match found.first_error {
        Some(error) => Ok(Some(String::from_utf8_lossy(error.bytes()).into_owned())),
        None => Ok(found.is_any_without.then(String::new)),
    }
}

/// `prism_crypt._reencrypt(value anyelement, from_version integer, keyset text, keep boolean) → anyelement`: the same
/// value with each rotatable value in it re-encrypted. One that can't be opened is kept if `keep` is true, and an error
/// otherwise.
#[pg_extern(sql = false)]
fn _reencrypt(
    value: Option<AnyElement>,
    from_version: Option<i32>,
    keyset: Option<&str>,
    keep: Option<bool>,
) -> SqlResult<Option<AnyElement>> {
    let Some(value) = value else { return Ok(None) };
    let type_oid = type_of(&value)?;
    let (scope, keep) = (Scope { from_version, keyset }, keep.unwrap_or_default());
    // SAFETY: PostgreSQL passes a value of the type that the call expression has, and expects one of the same type. An
    // envelope in a new varlena is a `bytea`.
    unsafe {
        let changed = match bytes_of(&value) {
            Some(bytes) if bytes.envelope().is_err() => return Ok(Some(value)),
            Some(bytes) => reencrypted(bytes.0.bytes(), scope, keep)?.datum(),
            None => nested::map(value.datum(), type_oid, &mut |bytes| reencrypted(bytes, scope, keep))?,
        };
        Ok(<AnyElement as FromDatum>::from_polymorphic_datum(changed, false, type_oid))
    }
}

fn reencrypted(bytes: &[u8], scope: Scope<'_>, keep: bool) -> Result<Varlena, Error> {
    let envelope = Envelope::parse(bytes).map_err(Error::StoredValue);
    match envelope {
        Ok(envelope)
            if scope.judge(envelope.key_version(), envelope.attributes().search_tag)? != Verdict::Rotate =>
        {
            Varlena::copy_of(bytes)
        }
        Ok(envelope) if !keep => keyring::reseal(&envelope, &envelope.attributes()),
        envelope => reencrypt_or_keep(envelope, bytes),
    }
}

/// Sums up what [`rotation_error`] says about the values in a datum. Holds nothing that has to be dropped: PostgreSQL's
/// errors may leave the walk without unwinding.
#[derive(Default)]
struct Errors {
    is_any_without: bool,
    first_error: Option<Varlena>,
}

impl Errors {
    /// Adds one value.
    fn add(&mut self, bytes: &[u8], scope: Scope<'_>) -> Result<(), Error> {
        match rotation_error(Envelope::parse(bytes).map_err(Error::StoredValue), scope)? {
            Some(error) if error.is_empty() => self.is_any_without = true,
            Some(error) if self.first_error.is_none() => {
                self.first_error = Some(Varlena::copy_of(error.as_bytes())?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn errors_in(value: Option<AnyElement>, scope: Scope<'_>) -> Result<Errors, Error> {
    let mut found = Errors::default();
    let Some(value) = value else { return Ok(found) };
    if let Some(bytes) = bytes_of(&value) {
        if bytes.envelope().is_ok() {
            found.add(bytes.0.bytes(), scope)?;
        }
        return Ok(found);
    }
    // SAFETY: PostgreSQL passes a value of the type that the call expression has, and it is not null.
    unsafe {
        nested::visit(value.datum(), type_of(&value)?, &mut |leaf| {
            if leaf.is_bytes() { Ok(()) } else { found.add(leaf.bytes(), scope) }
        })?;
    }
    Ok(found)
}

/// The bytes of a `bytea`, which may hold a result of `encrypt_bytes()`, or anything. SQL passes a domain over `bytea`
/// as `bytea`, so that PostgreSQL checks what is assigned to it.
fn bytes_of(value: &AnyElement) -> Option<Bytea<'_>> {
    // SAFETY: the value is a varlena, which lives as long as the argument.
    (value.oid() == pg_sys::BYTEAOID).then(|| Bytea(unsafe { Payload::of(value.datum()) }))
}

fn type_of(value: &AnyElement) -> Result<pg_sys::Oid, Error> {
    let type_oid = value.oid();
    if type_oid == pg_sys::InvalidOid {
        return Err(Error::Internal("the type of the argument is not known"));
    }
    Ok(type_oid)
}
