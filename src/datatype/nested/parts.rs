//! Takes composite values apart and puts them together again, as PostgreSQL does. A value that contradicts its own header is an
//! error.

use super::layout::{Layout, is_tuple};
use super::shape::shape;
use crate::error::Error;
use pgrx::{PgTupleDesc, pg_sys};

const DAMAGED_COMPOSITE: Error = Error::DamagedNested("composite value");

/// The bytes of a detoasted value, including its length word; `None` if they are shorter than `header_len`.
///
/// # Safety
/// `pointer` is a varlena with a long header, and lives as long as `'a`.
pub unsafe fn bytes_of<'a>(pointer: *const pg_sys::varlena, header_len: usize) -> Option<&'a [u8]> {
    // SAFETY: as promised by the caller.
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), pgrx::varsize_any(pointer)) };
    (bytes.len() >= header_len).then_some(bytes)
}

/// A composite value, detoasted. Holds nothing that needs dropping, which sealing requires: [`Composite::release`] gives the
/// reference to the descriptor back, or PostgreSQL does after an error.
pub struct Composite {
    header: pg_sys::HeapTupleHeader,
    descriptor: pg_sys::TupleDesc,
}

impl Composite {
    /// Detoasts the value if needed.
    ///
    /// # Safety
    /// `datum` is of the composite type `expected`, or of a domain over it.
    pub unsafe fn of(datum: pg_sys::Datum, expected: pg_sys::Oid) -> Result<Self, Error> {
        // SAFETY: as promised by the caller. Every composite datum names its type, even if its declared type is a domain.
        unsafe {
            let pointer = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            bytes_of(pointer, size_of::<pg_sys::HeapTupleHeaderData>()).ok_or(DAMAGED_COMPOSITE)?;
            let header = pointer.cast::<pg_sys::HeapTupleHeaderData>();
            let pg_sys::DatumTupleFields { datum_typeid: found, datum_typmod, .. } =
                (*header).t_choice.t_datum;
            let is_as_expected = found == expected
                || [found, expected].contains(&pg_sys::RECORDOID)
                || found == shape(expected).base;
            if !is_as_expected {
                return Err(DAMAGED_COMPOSITE);
            }
            let descriptor = pg_sys::lookup_rowtype_tupdesc_noerror(found, datum_typmod, true);
            if descriptor.is_null() { Err(DAMAGED_COMPOSITE) } else { Ok(Self { header, descriptor }) }
        }
    }

    /// The type of a field; `None` for one that was dropped.
    pub fn field_type(&self, index: usize) -> Option<pg_sys::Oid> {
        // SAFETY: the descriptor is valid until `release`.
        let descriptor = unsafe { PgTupleDesc::from_pg_unchecked(self.descriptor) };
        descriptor.get(index).filter(|field| !field.attisdropped).map(|field| field.atttypid)
    }

    /// The fields, and which of them are null; both palloc'd. Fields that were added to the type after the value was made are
    /// filled in as for a table.
    ///
    /// # Safety
    /// The current memory context outlives the slices.
    pub unsafe fn fields<'a>(&self) -> Result<(&'a mut [pg_sys::Datum], &'a mut [bool]), Error> {
        // SAFETY: the varlena header gives the length of the tuple, and its fields were found to lie within it. Both arrays
        // have one element for each attribute.
        unsafe {
            let descriptor = PgTupleDesc::from_pg_unchecked(self.descriptor);
            let layouts = (0..descriptor.len()).map(|index| {
                descriptor.get(index).and_then(|field| Layout::new(field.attlen, field.attalign))
            });
            bytes_of(self.header.cast(), size_of::<pg_sys::HeapTupleHeaderData>())
                .filter(|bytes| is_tuple(bytes, layouts))
                .ok_or(DAMAGED_COMPOSITE)?;
            let count = usize::try_from((*self.descriptor).natts).unwrap_or_default();
            let values = pg_sys::palloc0(count * size_of::<pg_sys::Datum>()).cast();
            let nulls = pg_sys::palloc0(count * size_of::<bool>()).cast();
            let mut tuple = pg_sys::HeapTupleData {
                t_len: pgrx::varsize_any(self.header.cast()) as u32,
                t_data: self.header,
                ..pg_sys::HeapTupleData::default()
            };
            pg_sys::heap_deform_tuple(&mut tuple, self.descriptor, values, nulls);
            let values = std::slice::from_raw_parts_mut(values, count);
            Ok((values, std::slice::from_raw_parts_mut(nulls, count)))
        }
    }

    /// A value of the same type with these fields.
    pub fn with(&self, values: &mut [pg_sys::Datum], nulls: &mut [bool]) -> pg_sys::Datum {
        // SAFETY: both slices have one element for each attribute.
        unsafe {
            let tuple = pg_sys::heap_form_tuple(self.descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
        }
    }

    /// Releases the descriptor.
    pub fn release(self) {
        // SAFETY: gives back the reference that `of` took.
        unsafe { drop(PgTupleDesc::from_pg(self.descriptor)) }
    }
}
