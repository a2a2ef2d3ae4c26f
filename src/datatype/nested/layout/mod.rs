//! Finds the parts of arrays, ranges, multiranges and composite values, and checks what the bytes say about them: PostgreSQL
//! trusts it. Pure arithmetic; allocates nothing.
//!
//! [`Layout`] is how values of a type lie in memory: length and alignment. [`is_tuple`] follows the fields of a composite value
//! to its end, [`Elements`] the elements of an array, and `ranges` the bounds of ranges and multiranges. Each stops at the first
//! part that would extend past the whole.

pub mod ranges;

use pgrx::pg_sys;
use std::mem::offset_of;
use std::ops::Range;

/// How values of a type lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// As `pg_type.typlen`.
    pub length: i16,
    /// In bytes.
    pub alignment: usize,
}

impl Layout {
    /// From `typlen` and `typalign`; `None` if PostgreSQL has no such values.
    pub fn new(length: i16, alignment: std::ffi::c_char) -> Option<Self> {
        let alignment = match alignment as u8 {
            pg_sys::TYPALIGN_CHAR => 1,
            pg_sys::TYPALIGN_SHORT => align_of::<i16>(),
            pg_sys::TYPALIGN_INT => align_of::<i32>(),
            pg_sys::TYPALIGN_DOUBLE => align_of::<f64>(),
            _ => return None,
        };
        (length > 0 || length == -1 || length == -2).then_some(Self { length, alignment })
    }
}

const MAXALIGN: usize = pg_sys::MAXIMUM_ALIGNOF as usize;
const TUPLE_BITS_AT: usize = offset_of!(pg_sys::HeapTupleHeaderData, t_bits);
const ARRAY_DIMENSIONS_AT: usize = size_of::<pg_sys::ArrayType>();

/// Whether `datum`, given from its length word to its end, is a tuple whose fields all lie inside it. It may have fewer fields
/// than its type, never more.
pub fn is_tuple(datum: &[u8], fields: impl ExactSizeIterator<Item = Option<Layout>>) -> bool {
    tuple_end(datum, fields).is_some()
}

fn tuple_end(datum: &[u8], fields: impl ExactSizeIterator<Item = Option<Layout>>) -> Option<usize> {
    let attributes = read_u16(datum, offset_of!(pg_sys::HeapTupleHeaderData, t_infomask2))?;
    let count = usize::from(attributes) & pg_sys::HEAP_NATTS_MASK as usize;
    let flags = read_u16(datum, offset_of!(pg_sys::HeapTupleHeaderData, t_infomask))?;
    let has_nulls = u32::from(flags) & pg_sys::HEAP_HASNULL != 0;
    let data_at = usize::from(*datum.get(offset_of!(pg_sys::HeapTupleHeaderData, t_hoff))?);
    let bitmap_len = if has_nulls { count.div_ceil(8) } else { 0 };
    if count > fields.len() || data_at < TUPLE_BITS_AT + bitmap_len || !data_at.is_multiple_of(MAXALIGN) {
        return None;
    }
    let is_null = |field: usize| has_nulls && datum[TUPLE_BITS_AT + field / 8] & (1 << (field % 8)) == 0;
    let data = datum.get(data_at..)?;
    let mut end = 0;
    for (_, layout) in fields.take(count).enumerate().filter(|(field, _)| !is_null(*field)) {
        let layout = layout?;
        end = value_end(data, start(data, end, layout), layout)?;
    }
    Some(end)
}

/// The bytes contradict themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Where a part of a value lies in it; `None` for a null.
pub type Place = Result<Option<Range<usize>>, Damaged>;

/// The elements of an array of any dimensions, in order.
#[derive(Debug)]
pub struct Elements<'a> {
    datum: &'a [u8],
    dimensions: &'a [u8],
    nulls: Option<&'a [u8]>,
    layout: Layout,
    count: usize,
    index: usize,
    /// Where the next element begins.
    at: usize,
}

impl<'a> Elements<'a> {
    /// The elements of an array, given from its length word to its end.
    pub fn of(datum: &'a [u8], layout: Option<Layout>) -> Result<Self, Damaged> {
        Self::checked(datum, layout).ok_or(Damaged)
    }

    fn checked(datum: &'a [u8], layout: Option<Layout>) -> Option<Self> {
        let layout = layout?;
        let dimensions = usize::try_from(read_i32(datum, offset_of!(pg_sys::ArrayType, ndim))?).ok()?;
        let data_at = usize::try_from(read_i32(datum, offset_of!(pg_sys::ArrayType, dataoffset))?).ok()?;
        if dimensions > pg_sys::MAXDIM as usize {
            return None;
        }
        // A length and a lower bound for each dimension.
        let header_end = ARRAY_DIMENSIONS_AT + 2 * dimensions * size_of::<i32>();
        let stored = datum.get(ARRAY_DIMENSIONS_AT..header_end)?;
        let mut count = usize::from(dimensions > 0);
        for dimension in 0..dimensions {
            let length = read_i32(datum, ARRAY_DIMENSIONS_AT + dimension * size_of::<i32>())?;
            count = count.checked_mul(usize::try_from(length).ok()?)?;
            // PostgreSQL counts elements in an `int`.
            i32::try_from(count).ok()?;
        }
        let (nulls, at) = match data_at {
            0 => (None, header_end.next_multiple_of(MAXALIGN)),
            _ => {
                let nulls = datum.get(header_end..header_end + count.div_ceil(8))?;
                if data_at < header_end + nulls.len() || !data_at.is_multiple_of(MAXALIGN) {
                    return None;
                }
                (Some(nulls), data_at)
            }
        };
        // Even an array without elements does not end before its data would begin.
        datum.get(at..)?;
        Some(Self { datum, dimensions: stored, nulls, layout, count, index: 0, at })
    }

    /// Where the next element begins; for a new iterator, where the data begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many elements the array has, nulls included.
    pub fn total(&self) -> usize {
        self.count
    }

    /// The lengths of the dimensions, and then their lower bounds, as they are stored.
    pub fn dimensions(&self) -> &'a [u8] {
        self.dimensions
    }
}

impl Iterator for Elements<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        if self.index >= self.count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        if self.nulls.is_some_and(|nulls| nulls[index / 8] & (1 << (index % 8)) == 0) {
            return Some(Ok(None));
        }
        let Some(end) = value_end(self.datum, self.at, self.layout) else {
            self.index = self.count;
            return Some(Err(Damaged));
        };
        let place = self.at..end;
        // The last element may lack its padding.
        self.at = end.next_multiple_of(self.layout.alignment).min(self.datum.len());
        Some(Ok(Some(place)))
    }
}

/// Where the value after `end` begins. If a varlena is not preceded by padding, its header is short, or already aligned.
fn start(data: &[u8], end: usize, layout: Layout) -> usize {
    let is_short = layout.length == -1 && data.get(end).is_some_and(|byte| *byte != 0);
    if is_short { end } else { end.next_multiple_of(layout.alignment) }
}

/// Where the value that begins at `start` ends, if it ends inside `data`.
fn value_end(data: &[u8], start: usize, layout: Layout) -> Option<usize> {
    let rest = data.get(start..)?;
    let length = match layout.length {
        -1 => varlena_len(rest)?,
        -2 => rest.iter().position(|byte| *byte == 0)? + 1,
        length => usize::try_from(length).ok()?,
    };
    (length <= rest.len()).then_some(start + length)
}

/// The length of a varlena in bytes, including the header. `None` for an impossible header, and for a pointer into memory, which
/// no stored value has.
fn varlena_len(varlena: &[u8]) -> Option<usize> {
    const ON_DISK: u8 = pg_sys::vartag_external::VARTAG_ONDISK as u8;
    const POINTER_LEN: usize = size_of::<pg_sys::varatt_external>();
    let first = *varlena.first()?;
    let (is_long, is_pointer) = if cfg!(target_endian = "big") {
        (first & 0x80 == 0, first == 0x80)
    } else {
        (first & 1 == 0, first == 1)
    };
    if is_pointer {
        return (*varlena.get(1)? == ON_DISK).then_some(2 + POINTER_LEN);
    }
    if !is_long {
        let length = if cfg!(target_endian = "big") { first & 0x7f } else { first >> 1 };
        return Some(length.into());
    }
    let word = u32::from_ne_bytes(*varlena.first_chunk()?);
    let (length, is_compressed) = if cfg!(target_endian = "big") {
        (word & 0x3fff_ffff, word & 0x4000_0000 != 0)
    } else {
        (word >> 2, word & 2 != 0)
    };
    let length = usize::try_from(length).ok()?;
    // In a compressed varlena, the raw length follows the header.
    (length >= if is_compressed { 8 } else { pg_sys::VARHDRSZ }).then_some(length)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests;
