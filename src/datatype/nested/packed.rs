//! Values that are made of others of one type: arrays, ranges and multiranges.

use super::layout::ranges::{BOUNDS_AT, Bounds, Ranges, multirange_entry, multirange_entry_at};
use super::layout::{Damaged, Elements, Layout};
use super::parts::bytes_of;
use super::shape::{Kind, shape};
use crate::error::Error;
use crate::varlena::Varlena;
use pgrx::{check_for_interrupts, pg_sys};
use std::ops::Range;

/// What becomes of a part: another one, or `None` for the same.
type Replace<'a> = &'a mut dyn FnMut(pg_sys::Datum) -> Result<Option<pg_sys::Datum>, Error>;

/// An array, a range or a multirange, detoasted. Its parts lie in it, and are pointed at: they are varlenas. Holds nothing to
/// be dropped.
pub struct Packed<'a> {
    bytes: &'a [u8],
    kind: Kind,
    part_type: pg_sys::Oid,
    layout: Option<Layout>,
}

impl<'a> Packed<'a> {
    /// Detoasts where it has to be.
    ///
    /// # Safety
    /// `datum` is of this kind, which is one of the three. It, and the current memory context, outlive what is given.
    pub unsafe fn of(datum: pg_sys::Datum, kind: Kind) -> Result<Self, Error> {
        // SAFETY: as promised by the caller. The type stands behind the length word in ranges and multiranges, and in the
        // header of an array; the look-ups give an invalid oid where the bytes name no such type.
        unsafe {
            let pointer = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            let header_len = if kind == Kind::Array { size_of::<pg_sys::ArrayType>() } else { BOUNDS_AT };
            let bytes = bytes_of(pointer, header_len).ok_or_else(|| damaged(kind))?;
            let part_type = match kind {
                Kind::Array => (*pointer.cast::<pg_sys::ArrayType>()).elemtype,
                Kind::Range => pg_sys::get_range_subtype((*pointer.cast::<pg_sys::RangeType>()).rangetypid),
                _ => {
                    let own = (*pointer.cast::<pg_sys::RangeType>()).rangetypid;
                    pg_sys::get_range_subtype(pg_sys::get_multirange_range(own))
                }
            };
            if !pg_sys::get_typisdefined(part_type) {
                return Err(damaged(kind));
            }
            let (mut length, mut by_value, mut alignment) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(part_type, &mut length, &mut by_value, &mut alignment);
            // Whoever asks for the parts of others finds them damaged.
            let layout = if length == -1 { Layout::new(length, alignment) } else { None };
            Ok(Self { bytes, kind, part_type, layout })
        }
    }

    /// The type of the parts, as the value itself names it.
    pub fn part_type(&self) -> pg_sys::Oid {
        self.part_type
    }

    /// Shows each part that is not null to `see`.
    pub fn each(&self, see: &mut dyn FnMut(pg_sys::Datum) -> Result<(), Error>) -> Result<(), Error> {
        let error = |_: Damaged| damaged(self.kind);
        let mut see = |place: Range<usize>| see(pg_sys::Datum::from(self.bytes[place].as_ptr()));
        let see_bounds = |bounds: Bounds, see: &mut dyn FnMut(Range<usize>) -> Result<(), Error>| {
            bounds.lower.into_iter().chain(bounds.upper).try_for_each(see)
        };
        match self.kind {
            Kind::Array => {
                for place in Elements::of(self.bytes, self.layout).map_err(error)? {
                    check_for_interrupts!();
                    if let Some(place) = place.map_err(error)? {
                        see(place)?;
                    }
                }
            }
            Kind::Range => see_bounds(Bounds::of_range(self.bytes, self.layout).map_err(error)?, &mut see)?,
            _ => {
                for bounds in Ranges::of(self.bytes, self.layout).map_err(error)? {
                    check_for_interrupts!();
                    see_bounds(bounds.map_err(error)?, &mut see)?;
                }
            }
        }
        Ok(())
    }

    /// The same value, in the current memory context, with parts replaced; `None` where none is. The order of a range's bounds
    /// is not looked at.
    pub fn map(&self, replace: Replace<'_>) -> Result<Option<pg_sys::Datum>, Error> {
        let Some(layout) = self.layout else { return Err(damaged(self.kind)) };
        let error = |_: Damaged| damaged(self.kind);
        let mut new = Rebuilt {
            old: self.bytes,
            bytes: Buffer::new(self.bytes.len()),
            layout,
            is_changed: false,
            parts_are_own: shape(self.part_type).kind != Kind::Composite,
        };
        match self.kind {
            Kind::Array => {
                let elements = Elements::of(self.bytes, self.layout).map_err(error)?;
                new.begin(elements.at());
                for place in elements {
                    check_for_interrupts!();
                    if let Some(place) = place.map_err(error)? {
                        new.add(place, replace)?;
                        new.align();
                    }
                }
            }
            Kind::Range => {
                new.begin(BOUNDS_AT);
                new.add_bounds(Bounds::of_range(self.bytes, self.layout).map_err(error)?, replace)?;
                new.bytes.push(&self.bytes[self.bytes.len() - 1..]);
            }
            _ => new.add_ranges(Ranges::of(self.bytes, self.layout).map_err(error)?, replace)?,
        }
        Ok(new.finish())
    }
}

/// An array of another type, in the current memory context, that has the same dimensions and what `convert` makes of each
/// element; `None` where it would be longer than `limit` bytes.
///
/// # Safety
/// `array` is an array. Values of the new type are varlenas that are aligned as its own are.
pub unsafe fn convert_array(
    array: pg_sys::Datum,
    element_type: pg_sys::Oid,
    limit: usize,
    convert: &mut dyn FnMut(pg_sys::Datum) -> Result<Varlena, Error>,
) -> Result<Option<pg_sys::Datum>, Error> {
    // SAFETY: as promised by the caller.
    let old = unsafe { Packed::of(array, Kind::Array)? };
    let error = |_: Damaged| damaged(Kind::Array);
    let (Some(layout), elements) = (old.layout, Elements::of(old.bytes, old.layout).map_err(error)?) else {
        return Err(damaged(Kind::Array));
    };
    let mut new = Rebuilt {
        old: old.bytes,
        bytes: Buffer::new(old.bytes.len().min(limit)),
        layout,
        is_changed: true,
        parts_are_own: true,
    };
    new.begin(elements.at());
    for place in elements {
        check_for_interrupts!();
        if let Some(place) = place.map_err(error)? {
            new.add(place, &mut |element| Ok(Some(convert(element)?.datum())))?;
            new.align();
        }
        if new.bytes.length > limit {
            return Ok(new.bytes.free());
        }
    }
    let names_type = std::mem::offset_of!(pg_sys::ArrayType, elemtype);
    new.bytes.written()[names_type..][..size_of::<u32>()]
        .copy_from_slice(&element_type.to_u32().to_ne_bytes());
    Ok(new.finish())
}

/// A value that is put together from an old one and new parts. Holds nothing to be dropped: errors of PostgreSQL's may leave
/// it without unwinding.
struct Rebuilt<'a> {
    old: &'a [u8],
    /// The length word, yet to be written, and what follows.
    bytes: Buffer,
    layout: Layout,
    is_changed: bool,
    /// Whether a new part is an allocation of its own.
    parts_are_own: bool,
}

impl Rebuilt<'_> {
    /// Takes over what stands before the parts. The padding of a value without parts may be missing.
    fn begin(&mut self, data_at: usize) {
        self.bytes.push(&self.old[..data_at.min(self.old.len())]);
    }

    fn align(&mut self) {
        let padding = self.bytes.length.next_multiple_of(self.layout.alignment) - self.bytes.length;
        self.bytes.push(&[0; pg_sys::MAXIMUM_ALIGNOF as usize][..padding]);
    }

    fn add(&mut self, place: Range<usize>, replace: Replace<'_>) -> Result<(), Error> {
        let old = &self.old[place];
        match replace(pg_sys::Datum::from(old.as_ptr()))? {
            None => self.bytes.push(old),
            Some(part) => {
                self.is_changed = true;
                // SAFETY: a new part is a whole varlena with a long header, which nothing else refers to.
                unsafe {
                    let new = bytes_of(part.cast_mut_ptr(), pg_sys::VARHDRSZ);
                    self.bytes.push(new.ok_or(Error::Internal("a part without a length"))?);
                    if self.parts_are_own {
                        pg_sys::pfree(part.cast_mut_ptr());
                    }
                }
            }
        }
        Ok(())
    }

    fn add_bounds(&mut self, bounds: Bounds, replace: Replace<'_>) -> Result<(), Error> {
        for place in bounds.lower.into_iter().chain(bounds.upper) {
            self.align();
            self.add(place, replace)?;
        }
        Ok(())
    }

    fn add_ranges(&mut self, ranges: Ranges<'_>, replace: Replace<'_>) -> Result<(), Error> {
        let (first_at, mut last_at) = (ranges.first_at(), ranges.first_at());
        self.begin(first_at);
        for (index, bounds) in ranges.enumerate() {
            check_for_interrupts!();
            let at = self.bytes.length;
            if index > 0 {
                let entry = multirange_entry(index, at - first_at, at - last_at).ok_or(Error::OutOfMemory)?;
                self.bytes.written()[multirange_entry_at(index)..][..size_of::<u32>()]
                    .copy_from_slice(&entry.to_ne_bytes());
            }
            last_at = at;
            self.add_bounds(bounds.map_err(|_| damaged(Kind::Multirange))?, replace)?;
            self.align();
        }
        Ok(())
    }

    fn finish(self) -> Option<pg_sys::Datum> {
        if self.is_changed { Some(self.bytes.into_varlena()) } else { self.bytes.free() }
    }
}

/// `MaxAllocSize`: as much as PostgreSQL allocates at once.
const MAX_ALLOC: usize = 0x3fff_ffff;

/// Bytes in the current memory context, more and more of them. More than [`MAX_ALLOC`] are PostgreSQL's error.
struct Buffer {
    start: *mut u8,
    length: usize,
    capacity: usize,
}

impl Buffer {
    fn new(capacity: usize) -> Self {
        // SAFETY: gives so many bytes, or raises an error.
        let start = unsafe { pg_sys::palloc(capacity).cast() };
        Self { start, length: 0, capacity }
    }

    fn push(&mut self, bytes: &[u8]) {
        let length = self.length + bytes.len();
        // SAFETY: enough bytes are there when they are written, or an error was raised; `bytes` lie elsewhere.
        unsafe {
            if length > self.capacity {
                self.capacity = length.max((2 * self.capacity).min(MAX_ALLOC));
                self.start = pg_sys::repalloc(self.start.cast(), self.capacity).cast();
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(self.length), bytes.len());
        }
        self.length = length;
    }

    fn written(&mut self) -> &mut [u8] {
        // SAFETY: so many were written.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Writes the length word that they begin with.
    fn into_varlena(self) -> pg_sys::Datum {
        // SAFETY: a whole header was written, and an allocation is no longer than a length word can say.
        unsafe { pgrx::set_varsize_4b(self.start.cast(), self.length as i32) }
        pg_sys::Datum::from(self.start)
    }

    fn free(self) -> Option<pg_sys::Datum> {
        // SAFETY: allocated by palloc, and nothing refers to it any more.
        unsafe { pg_sys::pfree(self.start.cast()) }
        None
    }
}

fn damaged(kind: Kind) -> Error {
    Error::DamagedNested(match kind {
        Kind::Array => "array",
        Kind::Range => "range",
        _ => "multirange",
    })
}
