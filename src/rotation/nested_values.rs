//! The same questions for arrays, composite types and domains over them.

use super::values::{is_rotatable, reencrypt_or_keep, rotation_error};
use super::{Scope, Verdict, note_unreadable};
use crate::datatype::nested;
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::AnyElement;
use pgrx::prelude::*;
use prism_envelope::Envelope;

/// `prism_crypt._is_rotatable_nested(value anyelement, from_version integer, keyset text) → boolean`: whether it holds a
/// value that is rotatable.
#[pg_extern(sql = false)]
fn _is_rotatable_nested(
    value: Option<AnyElement>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let Some(value) = value else { return Ok(false) };
    let scope = Scope { from_version, keyset };
    let mut found = false;
    // SAFETY: PostgreSQL passes a value of the type that the call expression says, and it is not null.
    unsafe {
        nested::visit(value.datum(), type_of(&value)?, &mut |leaf| {
            found |= !leaf.is_bytes() && is_rotatable(leaf.key_version(), leaf.search_tag(), scope)?;
            Ok(())
        })?;
    }
    Ok(found)
}

/// `prism_crypt._can_rotate_nested(value anyelement, from_version integer, keyset text) → boolean`: whether it holds a
/// value that is rotatable and opens.
#[pg_extern(sql = false)]
fn _can_rotate_nested(
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

/// `prism_crypt._rotation_error_nested(value anyelement, from_version integer, keyset text) → text`: as
/// `_rotation_error`, for the first problem in it.
#[pg_extern(sql = false)]
fn _rotation_error_nested(
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

/// `prism_crypt._reencrypt_nested(value anyelement, from_version integer, keyset text, keep boolean) → anyelement`: the same
/// value with each rotatable value in it re-encrypted. One that can't be opened is an error, or kept.
#[pg_extern(sql = false)]
fn _reencrypt_nested(
    value: Option<AnyElement>,
    from_version: Option<i32>,
    keyset: Option<&str>,
    keep: Option<bool>,
) -> SqlResult<Option<AnyElement>> {
    let Some(value) = value else { return Ok(None) };
    let type_oid = type_of(&value)?;
    let (scope, keep) = (Scope { from_version, keyset }, keep.unwrap_or_default());
    // SAFETY: PostgreSQL passes a value of the type that the call expression says, and takes one of the same type.
    unsafe {
        let mapped = nested::map(value.datum(), type_oid, &mut |bytes| reencrypted(bytes, scope, keep))?;
        Ok(<AnyElement as FromDatum>::from_polymorphic_datum(mapped, false, type_oid))
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
        Ok(envelope) if !keep => keyring::reseal(&envelope, envelope.attributes()),
        envelope => reencrypt_or_keep(envelope, bytes),
    }
}

/// What `_rotation_error` says of the values that are not under an active key. Holds nothing to be dropped: PostgreSQL's
/// errors may leave the walk without unwinding.
#[derive(Default)]
struct Errors {
    is_any_without: bool,
    first_error: Option<Varlena>,
}

fn errors_in(value: Option<AnyElement>, scope: Scope<'_>) -> Result<Errors, Error> {
    let mut found = Errors::default();
    let Some(value) = value else { return Ok(found) };
    // SAFETY: PostgreSQL passes a value of the type that the call expression says, and it is not null.
    unsafe {
        nested::map(value.datum(), type_of(&value)?, &mut |bytes| {
            match rotation_error(Envelope::parse(bytes).map_err(Error::StoredValue), scope)? {
                Some(error) if error.is_empty() => found.is_any_without = true,
                Some(error) if found.first_error.is_none() => {
                    found.first_error = Some(Varlena::copy_of(error.as_bytes())?);
                }
                _ => {}
            }
            Varlena::copy_of(bytes)
        })?;
    }
    Ok(found)
}

fn type_of(value: &AnyElement) -> Result<pg_sys::Oid, Error> {
    let type_oid = value.oid();
    if type_oid == pg_sys::InvalidOid {
        return Err(Error::Internal("the type of the argument is not known"));
    }
    Ok(type_oid)
}
