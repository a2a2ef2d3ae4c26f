//! Values inside of values: finds, or replaces, each `encrypted_text` in a datum of any type. Domains, arrays, ranges, multiranges
//! and composite types are looked through, however deep.
//!
//! [`visit`] and [`map`] walk over a value. At each step `shape` says what the type is made of, and so whether there is anything
//! to find. A composite value is taken apart by `parts`; arrays, ranges and multiranges, whose parts are of one type, by `packed`.
//! Before either believes what a value says of itself, `layout` checks that its parts lie inside of it. Where a part was replaced,
//! the value around it is made anew.

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

pub use packed::convert_array;
pub use shape::{has_encrypted_column, holds, is_leaf};

/// One value found, of which only the front is fetched until all is asked for.
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

    /// Its key version, if it is an envelope as far as that can be told without its key.
    pub fn key_version(&self) -> Result<KeyVersion, FormatError> {
        self.front.envelope_version()
    }

    /// Its search tag, if it has one.
    pub fn search_tag(&self) -> Option<SearchTag> {
        self.front.search_tag()
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the varlena that the front is of, which is there as long as the value that it was found in.
        unsafe { Payload::of(self.datum) }.bytes()
    }
}

/// Calls `see` with each leaf of a value. Of a value that is a leaf itself and stored out of line, only the front is
/// fetched.
///
/// # Safety
/// `datum` is not null and of the type `type_oid`. What has to be copied stays in the current memory context.
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
                let (values, nulls) = composite.fields()?;
                for (index, (value, _)) in
                    values.iter().zip(&*nulls).enumerate().filter(|(_, (_, is_null))| !**is_null)
                {
                    if let Some(field_type) = composite.field_type(index) {
                        visit(*value, field_type, see)?;
                    }
                }
                composite.release();
                Ok(())
            }
            Kind::Other => Ok(()),
        }
    }
}

/// The same value with each `encrypted_text` in it replaced by what `replace` makes of its bytes. Domains that it is of
/// are checked again. A value without any is given back as it is.
///
/// # Safety
/// As [`visit`].
pub unsafe fn map(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    replace: &mut dyn FnMut(&[u8]) -> Result<Varlena, Error>,
) -> Result<pg_sys::Datum, Error> {
    // SAFETY: as promised by the caller.
    Ok(unsafe { map_part(datum, type_oid, &mut null_mut(), replace)? }.unwrap_or(datum))
}

/// `None` where there is nothing to replace. `domain` is where PostgreSQL keeps what it knows of a domain from one value
/// to the next.
///
/// # Safety
/// As [`visit`].
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
                let (values, nulls) = composite.fields()?;
                let mut changed = false;
                for (index, (value, is_null)) in values.iter_mut().zip(&mut *nulls).enumerate() {
                    let Some(field_type) = composite.field_type(index) else {
                        // It could be an old ciphertext.
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
                let mapped = changed.then(|| composite.with(values, nulls));
                composite.release();
                mapped
            }
            Kind::Bytes | Kind::Other => None,
        };
        if let Some(mapped) = mapped.filter(|_| is_domain) {
            pg_sys::domain_check(mapped, false, type_oid, domain, null_mut());
        }
        Ok(mapped)
    }
}
