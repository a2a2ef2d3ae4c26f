//! Values whose parts all have one type: arrays, ranges and multiranges.

use super::layout::ranges::{BOUNDS_AT, Bounds, Ranges, multirange_entry, multirange_entry_at};
use super::layout::{Damaged, Elements, Layout};
use super::parts::bytes_of;
use super::shape::{Kind, shape};
use crate::error::Error;
use crate::varlena::Varlena;
use pgrx::{check_for_interrupts, pg_sys};
use std::ops::Range;

/// Gives the replacement of a part, or `None` to keep it.
type Replace<'a> = &'a mut dyn FnMut(pg_sys::Datum) -> Result<Option<pg_sys::Datum>, Error>;

/// An array, a range or a multirange, detoasted. Its parts are varlenas, and are passed on as pointers into it. Holds nothing
/// that needs dropping.
pub struct Packed<'a> {
    bytes: &'a [u8],
    kind: Kind,
    part_type: pg_sys::Oid,
    layout: Option<Layout>,
}

impl<'a> Packed<'a> {
    /// Detoasts the value if needed.
    ///
    /// # Safety
    /// `datum` is of this kind, which is one of the three. It and the current memory context outlive the result.
    pub unsafe fn of(datum: pg_sys::Datum, kind: Kind) -> Result<Self, Error> {
        // SAFETY: as promised by the caller. The type follows the length word in ranges and multiranges, and is in the header
        // of an array; the look-ups return an invalid OID if the bytes name no such type.
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
            // Parts that are not varlenas get no layout: asking for them is an error.
            let layout = if length == -1 { Layout::new(length, alignment) } else { None };
            Ok(Self { bytes, kind, part_type, layout })
        }
    }

    /// The same for an array, whose elements may have a fixed length.
    ///
    /// # Safety
    /// `datum` is an array. It and the current memory context outlive the result.
    pub unsafe fn of_any_array(datum: pg_sys::Datum) -> Result<Self, Error> {
        // SAFETY: as promised by the caller; the type of the elements is defined.
        unsafe {
            let array = Self::of(datum, Kind::Array)?;
            let (mut length, mut by_value, mut alignment) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(array.part_type, &mut length, &mut by_value, &mut alignment);
            Ok(Self { layout: Layout::new(length, alignment), ..array })
        }
    }

    /// The type of the parts, according to the value itself.
    pub fn part_type(&self) -> pg_sys::Oid {
        self.part_type
    }

    /// All of it, from its length word.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How its parts lie in memory; `None` if they are not varlenas.
    pub fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// Calls `see` with each part that is not null.
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

    /// A copy in the current memory context with parts replaced; `None` if none is. The order of a range's bounds is not
    /// checked.
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

/// An array of another type, in the current memory context, with the same dimensions and the result of `convert` for each
/// element; `None` if it would be longer than `limit` bytes.
///
/// # Safety
/// `array` is an array. Values of the new type are varlenas with the alignment of the old elements.
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

/// A value built from an old one and new parts. Holds nothing that needs dropping: PostgreSQL's errors may leave without
/// unwinding.
struct Rebuilt<'a> {
    old: &'a [u8],
    /// The new value. Its length word is written last.
    bytes: Buffer,
    layout: Layout,
    is_changed: bool,
    /// Whether each new part is its own allocation.
    parts_are_own: bool,
}

impl Rebuilt<'_> {
    /// Copies what precedes the parts. A value without parts may lack the padding.
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
                // SAFETY: a new part is a complete varlena with a long header, and nothing else refers to it.
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

/// `MaxAllocSize` (`utils/memutils.h`): the largest allocation, in bytes.
const MAX_ALLOC: usize = 0x3fff_ffff;

/// A growing buffer in the current memory context. PostgreSQL raises an error for more than [`MAX_ALLOC`] bytes.
struct Buffer {
    start: *mut u8,
    length: usize,
    capacity: usize,
}

impl Buffer {
    fn new(capacity: usize) -> Self {
        // SAFETY: returns this many bytes or raises an error.
        let start = unsafe { pg_sys::palloc(capacity).cast() };
        Self { start, length: 0, capacity }
    }

    fn push(&mut self, bytes: &[u8]) {
        let length = self.length + bytes.len();
        // SAFETY: the buffer is large enough before it is written, or an error was raised; `bytes` do not overlap it.
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
        // SAFETY: this many bytes were written.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Writes the length word at the start.
    fn into_varlena(self) -> pg_sys::Datum {
        // SAFETY: the buffer holds a whole header, and the length of any allocation fits a length word.
        unsafe { pgrx::set_varsize_4b(self.start.cast(), self.length as i32) }
        pg_sys::Datum::from(self.start)
    }

    fn free(self) -> Option<pg_sys::Datum> {
        // SAFETY: allocated by palloc, and no longer referred to.
        unsafe { pg_sys::pfree(self.start.cast()) }
        None
    }
}

pub fn damaged(kind: Kind) -> Error {
    Error::DamagedNested(match kind {
        Kind::Array => "array",
        Kind::Range => "range",
        _ => "multirange",
    })
}
