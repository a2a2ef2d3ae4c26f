//! Values inside values: finds or replaces each `encrypted_text` in a datum of any type, in domains, arrays, ranges, multiranges
//! and composite types of any depth.
//!
//! [`visit`] and [`map`] walk over a value. At each level `shape` says what the type is made of, and so whether there is anything
//! to find. `parts` takes composite values apart; `packed` does so with arrays, ranges and multiranges, whose parts have one
//! type. Before either trusts what a value says about itself, `layout` checks that its parts lie inside it. If a part was
//! replaced, the value around it is rebuilt.

mod array;
mod layout;
mod packed;
mod parts;
mod shape;

use crate::datum::{Front, Payload};
use crate::error::Error;
use crate::varlena::Varlena;
use packed::Packed;
use parts::Composite;
use pgrx::{check_for_interrupts, pg_sys};
use prism_envelope::{FormatError, KeyVersion, SearchTag};
use shape::{Kind, Shape, shape};
use std::ffi::c_void;
use std::ptr::null_mut;

pub use array::Array;
pub use packed::convert_array;
pub use shape::{TextLike, has_encrypted_column, holds, is_leaf, may_hold_encrypted, text_like};

/// A value that was found. Only its front is fetched until all of it is needed.
pub struct Leaf<'a> {
    datum: pg_sys::Datum,
    front: Front<'a>,
    is_bytes: bool,
}

impl Leaf<'_> {
    /// Whether it is a `bytea`, which may hold anything.
    pub fn is_bytes(&self) -> bool {
        self.is_bytes
    }

    /// Its key version, if it is an envelope, as far as can be told without the key.
    pub fn key_version(&self) -> Result<KeyVersion, FormatError> {
        self.front.envelope_version()
    }

    /// Its search tag, if it has one.
    pub fn search_tag(&self) -> Option<SearchTag> {
        self.front.search_tag()
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the front is of this varlena, which lives as long as the value it was found in.
        unsafe { Payload::of(self.datum) }.bytes()
    }
}

/// Calls `see` with each leaf of a value. If the value itself is a leaf and stored out of line, only its front is fetched.
///
/// # Safety
/// `datum` is not null and of the type `type_oid`. Copies stay in the current memory context.
pub unsafe fn visit(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    see: &mut dyn FnMut(&Leaf<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    // SAFETY: as promised by the caller; the parts are of the types that the value names.
    unsafe {
        let kind = shape(type_oid).kind;
        if kind.has_parts() {
            pg_sys::check_stack_depth();
        }
        match kind {
            kind @ (Kind::Encrypted | Kind::Bytes) => {
                see(&Leaf { datum, front: Front::of(datum), is_bytes: kind == Kind::Bytes })
            }
            Kind::Array | Kind::Range | Kind::Multirange => {
                let packed = Packed::of(datum, kind)?;
                let part_type = packed.part_type();
                if shape(part_type).kind == Kind::Other {
                    return Ok(());
                }
                packed.each(&mut |part| visit(part, part_type, see))
            }
            Kind::Composite => {
                check_for_interrupts!();
                let composite = Composite::of(datum, type_oid)?;
                let seen = composite.fields().and_then(|(values, nulls)| {
                    for (index, (value, is_null)) in values.iter().zip(&*nulls).enumerate() {
                        if let Some(field_type) = composite.field_type(index).filter(|_| !is_null) {
                            visit(*value, field_type, see)?;
                        }
                    }
                    Ok(())
                });
                composite.release();
                seen
            }
            Kind::Other => Ok(()),
        }
    }
}

/// The same value with each `encrypted_text` in it replaced by the result of `replace` for its bytes. Constraints of domains
/// are checked again. A value that holds none is returned unchanged.
///
/// # Safety
/// As for [`visit`].
pub unsafe fn map(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    replace: &mut dyn FnMut(&[u8]) -> Result<Varlena, Error>,
) -> Result<pg_sys::Datum, Error> {
    // SAFETY: as promised by the caller.
    Ok(unsafe { map_part(datum, type_oid, &mut null_mut(), replace)? }.unwrap_or(datum))
}

/// `None` if there is nothing to replace. In `domain`, PostgreSQL caches what it knows of a domain from one value to the next.
///
/// # Safety
/// As for [`visit`].
unsafe fn map_part(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    domain: &mut *mut c_void,
    replace: &mut dyn FnMut(&[u8]) -> Result<Varlena, Error>,
) -> Result<Option<pg_sys::Datum>, Error> {
    let Shape { kind, is_domain, .. } = shape(type_oid);
    // SAFETY: as promised by the caller; the parts are of the types that the value names.
    unsafe {
        if kind.has_parts() {
            pg_sys::check_stack_depth();
        }
        let mapped = match kind {
            Kind::Encrypted => {
                let bytes = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
                Some(replace(pgrx::varlena_to_byte_slice(bytes))?.datum())
            }
            Kind::Array | Kind::Range | Kind::Multirange => {
                let packed = Packed::of(datum, kind)?;
                let part_type = packed.part_type();
                if matches!(shape(part_type).kind, Kind::Bytes | Kind::Other) {
                    return Ok(None);
                }
                let mut part_domain = null_mut();
                packed.map(&mut |part| map_part(part, part_type, &mut part_domain, replace))?
            }
            Kind::Composite => {
                check_for_interrupts!();
                let composite = Composite::of(datum, type_oid)?;
                let mapped = composite.fields().and_then(|(values, nulls)| {
                    let mut changed = false;
                    for (index, (value, is_null)) in values.iter_mut().zip(&mut *nulls).enumerate() {
                        let Some(field_type) = composite.field_type(index) else {
                            // The dropped field could hold an old ciphertext.
                            *is_null = true;
                            continue;
                        };
                        if *is_null {
                            continue;
                        }
                        if let Some(mapped) = map_part(*value, field_type, &mut null_mut(), replace)? {
                            (*value, changed) = (mapped, true);
                        }
                    }
                    Ok(changed.then(|| composite.with(values, nulls)))
                });
                composite.release();
                mapped?
            }
            Kind::Bytes | Kind::Other => None,
        };
        if let Some(mapped) = mapped.filter(|_| is_domain) {
            pg_sys::domain_check(mapped, false, type_oid, domain, null_mut());
        }
        Ok(mapped)
    }
}
