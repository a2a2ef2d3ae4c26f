//! Handmade datums, valid and damaged. The tests run without a server.

use super::ranges::{Bounds, Ranges, multirange_entry};
use super::{Damaged, Elements, Layout, TUPLE_BITS_AT, tuple_end};
use pgrx::pg_sys;

const INT: Layout = Layout { length: 4, alignment: 4 };
const BIGINT: Layout = Layout { length: 8, alignment: 8 };
const BYTE: Layout = Layout { length: 1, alignment: 1 };
const TEXT: Layout = Layout { length: -1, alignment: 4 };
const CSTRING: Layout = Layout { length: -2, alignment: 1 };

/// A tuple of `count` fields, with these bytes after its header.
fn tuple(count: u16, nulls: Option<&[u8]>, data: &[u8]) -> Vec<u8> {
    let data_at = (TUPLE_BITS_AT + nulls.map_or(0, <[u8]>::len)).next_multiple_of(8);
    let mut datum = vec![0; data_at];
    datum[18..20].copy_from_slice(&count.to_ne_bytes());
    datum[20..22].copy_from_slice(&u16::from(nulls.is_some()).to_ne_bytes());
    datum[22] = u8::try_from(data_at).unwrap_or_default();
    if let Some(nulls) = nulls {
        datum[TUPLE_BITS_AT..][..nulls.len()].copy_from_slice(nulls);
    }
    datum.extend_from_slice(data);
    datum
}

fn end_of(datum: &[u8], fields: &[Layout]) -> Option<usize> {
    tuple_end(datum, fields.iter().copied().map(Some))
}

/// A varlena whose long header claims this length.
fn long(says: u32, payload: &[u8]) -> Vec<u8> {
    let mut varlena = if cfg!(target_endian = "big") { says } else { says << 2 }.to_ne_bytes().to_vec();
    varlena.extend_from_slice(payload);
    varlena
}

fn short(says: u8, payload: &[u8]) -> Vec<u8> {
    let mut varlena = vec![if cfg!(target_endian = "big") { says | 0x80 } else { says << 1 | 1 }];
    varlena.extend_from_slice(payload);
    varlena
}

fn pointer(tag: u32, len: usize) -> Vec<u8> {
    let mut varlena = vec![if cfg!(target_endian = "big") { 0x80 } else { 1 }, tag as u8];
    varlena.resize(2 + len, 0);
    varlena
}

#[test]
fn tuples_as_postgresql_makes_them() {
    assert_eq!(end_of(&tuple(0, None, b""), &[]), Some(0));
    assert_eq!(end_of(&tuple(2, None, &[0; 16]), &[INT, BIGINT]), Some(16));
    // Fields that were added to the type later.
    assert_eq!(end_of(&tuple(1, None, &[0; 4]), &[INT, BIGINT]), Some(4));
    // The second of three is null: its bit is 0.
    assert_eq!(end_of(&tuple(3, Some(&[0b101]), &[0; 8]), &[INT, BIGINT, INT]), Some(8));
    assert_eq!(end_of(&tuple(1, None, &long(7, b"abc")), &[TEXT]), Some(7));
    // Short headers are not aligned, long ones are.
    let data = [&[9][..], &short(4, b"abc")].concat();
    assert_eq!(end_of(&tuple(2, None, &data), &[BYTE, TEXT]), Some(5));
    let data = [&[9, 0, 0, 0][..], &long(7, b"abc")].concat();
    assert_eq!(end_of(&tuple(2, None, &data), &[BYTE, TEXT]), Some(11));
    assert_eq!(end_of(&tuple(2, None, b"abc\0\x01"), &[CSTRING, BYTE]), Some(5));
    let data = pointer(pg_sys::vartag_external::VARTAG_ONDISK, 16);
    assert_eq!(end_of(&tuple(1, None, &data), &[TEXT]), Some(18));
}

#[test]
fn tuples_of_a_wrong_shape() {
    // More fields than the type has.
    assert_eq!(end_of(&tuple(3, None, &[0; 64]), &[INT, INT]), None);
    assert_eq!(end_of(&tuple(2047, Some(&[0; 256]), b""), &[INT]), None);
    // A field without the bytes for it.
    assert_eq!(end_of(&tuple(2, None, &[0; 15]), &[INT, BIGINT]), None);
    assert_eq!(end_of(&tuple(1, None, b""), &[INT]), None);
    for data in [
        long(8, b"abc"),
        long(0x3fff_ffff, b"abc"),
        // Shorter than its own header.
        long(0, b""),
        long(3, b"abc"),
        long(5, b"")[..3].to_vec(),
        short(5, b"abc"),
        pointer(pg_sys::vartag_external::VARTAG_ONDISK, 15),
        // Pointers into memory.
        pointer(pg_sys::vartag_external::VARTAG_INDIRECT, 8),
        pointer(pg_sys::vartag_external::VARTAG_EXPANDED_RW, 8),
        pointer(77, 64),
    ] {
        assert_eq!(end_of(&tuple(1, None, &data), &[TEXT]), None, "{data:?}");
    }
    assert_eq!(end_of(&tuple(1, None, b"abc"), &[CSTRING]), None);
}

#[test]
fn tuples_with_a_wrong_header() {
    let good = tuple(2, Some(&[0b11]), &[0; 8]);
    assert!(end_of(&good, &[INT, INT]).is_some());
    for length in 0..good.len() {
        assert_eq!(end_of(&good[..length], &[INT, INT]), None, "{length}");
    }
    // Where the data begins: inside the header, inside the bitmap, unaligned, past the end.
    for data_at in [0, 16, 23, 25, 28, 255] {
        let mut datum = good.clone();
        datum[22] = data_at;
        assert_eq!(end_of(&datum, &[INT, INT]), None, "{data_at}");
    }
    let mut datum = tuple(9, Some(&[0xff, 1]), &[0; 36]);
    assert!(end_of(&datum, &[INT; 9]).is_some());
    // No room for two bytes of bitmap.
    datum[22] = 24;
    assert_eq!(end_of(&datum, &[INT; 9]), None);
    // A field with a layout that PostgreSQL does not have.
    assert_eq!(tuple_end(&good, [Some(INT), None].into_iter()), None);
}

/// Where the last element ends.
fn array_end(datum: &[u8], element: Option<Layout>) -> Option<usize> {
    let mut elements = Elements::of(datum, element).ok()?;
    elements.try_for_each(|element| element.map(drop)).ok()?;
    Some(elements.at())
}

fn array(dimensions: &[i32], data_at: i32, rest: &[u8]) -> Vec<u8> {
    let mut datum = vec![0; 4];
    let count = i32::try_from(dimensions.len()).unwrap_or_default();
    for number in [count, data_at, 25].iter().chain(dimensions).chain(dimensions.iter().map(|_| &1)) {
        datum.extend_from_slice(&number.to_ne_bytes());
    }
    datum.extend_from_slice(rest);
    datum
}

#[test]
fn arrays_as_postgresql_makes_them() {
    assert_eq!(array_end(&array(&[], 0, b""), Some(TEXT)), Some(16));
    assert_eq!(array_end(&array(&[2], 0, &[0; 8]), Some(INT)), Some(32));
    assert_eq!(array_end(&array(&[2, 3], 0, &[0; 24]), Some(INT)), Some(56));
    // Two of three are not null, after a bitmap; the last lacks its padding.
    let rest = [&[0b101, 0, 0, 0, 0, 0, 0, 0][..], &long(5, b"a"), &[0; 3], &long(6, b"bc")].concat();
    assert_eq!(array_end(&array(&[3], 32, &rest), Some(TEXT)), Some(46));
}

#[test]
fn arrays_of_a_wrong_shape() {
    for datum in [
        array(&[-1], 0, &[0; 64]),
        array(&[i32::MAX], 0, &[0; 64]),
        array(&[65_536, 65_536], 0, &[0; 64]),
        array(&[i32::MAX; 6], 0, &[0; 64]),
        array(&[1; 7], 0, &[0; 64]),
        array(&[17], 0, &[0; 64]),
        // Where the data begins: inside the header, inside the bitmap, unaligned, past the end, before the datum.
        array(&[1], 16, &[0xff; 64]),
        array(&[65], 32, &[0xff; 256]),
        array(&[1], 36, &[0; 64]),
        array(&[0], 128, &[0; 64]),
        array(&[1], -8, &[0; 64]),
        // A bitmap that extends past the end.
        array(&[1024], 32, &[0; 16]),
    ] {
        assert_eq!(array_end(&datum, Some(INT)), None, "{datum:?}");
    }
    for rest in [long(9, b"abc"), long(2, b"abc"), pointer(1, 8)] {
        assert_eq!(array_end(&array(&[1], 0, &rest), Some(TEXT)), None, "{rest:?}");
    }
    let mut datum = array(&[1], 0, &[0; 8]);
    datum[4..8].copy_from_slice(&(-1_i32).to_ne_bytes());
    assert_eq!(array_end(&datum, Some(INT)), None);
    for length in 0..24 {
        assert_eq!(array_end(&datum[..length], Some(INT)), None, "{length}");
    }
    assert_eq!(array_end(&array(&[], 0, b""), None), None);
    assert_eq!(Layout::new(0, pg_sys::TYPALIGN_INT as std::ffi::c_char), None);
    assert_eq!(Layout::new(-3, pg_sys::TYPALIGN_INT as std::ffi::c_char), None);
    assert_eq!(Layout::new(4, 0), None);
}

const EMPTY: u8 = 0x01;
const WITHOUT_LOWER: u8 = 0x08;
const WITHOUT_UPPER: u8 = 0x10;

fn range(bounds: &[u8], flags: u8) -> Vec<u8> {
    [&[0; 8][..], bounds, &[flags]].concat()
}

fn bounds(lower: Option<std::ops::Range<usize>>, upper: Option<std::ops::Range<usize>>) -> Bounds {
    Bounds { lower, upper }
}

#[test]
fn ranges_as_postgresql_makes_them() {
    let of = |datum: &[u8]| Bounds::of_range(datum, Some(TEXT));
    assert_eq!(of(&range(b"", EMPTY)), Ok(bounds(None, None)));
    assert_eq!(of(&range(b"", WITHOUT_LOWER | WITHOUT_UPPER)), Ok(bounds(None, None)));
    assert_eq!(of(&range(&short(3, b"ab"), WITHOUT_UPPER)), Ok(bounds(Some(8..11), None)));
    assert_eq!(of(&range(&short(3, b"ab"), WITHOUT_LOWER)), Ok(bounds(None, Some(8..11))));
    // Values with short headers follow directly, those with long ones are aligned.
    let data = [short(3, b"ab"), short(2, b"c")].concat();
    assert_eq!(of(&range(&data, 0x06)), Ok(bounds(Some(8..11), Some(11..13))));
    let data = [&short(3, b"ab")[..], &[0], &long(5, b"c")].concat();
    assert_eq!(of(&range(&data, 0x02)), Ok(bounds(Some(8..11), Some(12..17))));
}

#[test]
fn ranges_of_a_wrong_shape() {
    let data = [short(3, b"ab"), short(2, b"c")].concat();
    let good = range(&data, 0x06);
    for length in 0..good.len() - 1 {
        // The flags are cut off with the end; these need both bounds.
        let mut datum = good[..length].to_vec();
        datum.push(0x06);
        assert_eq!(Bounds::of_range(&datum, Some(TEXT)), Err(Damaged), "{length}");
    }
    for data in [long(9, b"abc"), long(2, b""), pointer(pg_sys::vartag_external::VARTAG_INDIRECT, 8), vec![]]
    {
        assert_eq!(Bounds::of_range(&range(&data, WITHOUT_UPPER), Some(TEXT)), Err(Damaged), "{data:?}");
    }
    assert_eq!(Bounds::of_range(b"", Some(TEXT)), Err(Damaged));
    assert_eq!(Bounds::of_range(&good, None), Err(Damaged));
}

/// A multirange with these entries, flags and bounds.
fn multirange(count: u32, entries: &[u32], flags: &[u8], data: &[u8]) -> Vec<u8> {
    let mut datum = vec![0; 8];
    datum.extend_from_slice(&count.to_ne_bytes());
    datum.extend(entries.iter().flat_map(|entry| entry.to_ne_bytes()));
    datum.extend_from_slice(flags);
    datum.resize(datum.len().next_multiple_of(4), 0);
    datum.extend_from_slice(data);
    datum
}

fn ranges(datum: &[u8]) -> Result<Vec<Bounds>, Damaged> {
    Ranges::of(datum, Some(TEXT))?.collect()
}

#[test]
fn multiranges_as_postgresql_makes_them() {
    assert_eq!(ranges(&multirange(0, &[], &[], b"")), Ok(vec![]));
    // Without the padding after the header, since nothing follows.
    assert_eq!(ranges(&multirange(0, &[], &[], b"")[..12]), Ok(vec![]));
    let one = [&short(3, b"ab")[..], &[0]].concat();
    assert_eq!(ranges(&multirange(1, &[], &[WITHOUT_UPPER], &one)), Ok(vec![bounds(Some(16..19), None)]));
    // The entry of the fifth range (index 4) counts from the first.
    let entries: Vec<_> = (1..6).filter_map(|index| multirange_entry(index, 4 * index, 4)).collect();
    assert_eq!(entries, [4, 4, 4, 0x8000_0010, 4]);
    let found = ranges(&multirange(6, &entries, &[WITHOUT_UPPER; 6], &one.repeat(6)));
    let begins: Vec<_> =
        found.iter().flatten().filter_map(|one| one.lower.clone()).map(|lower| lower.start).collect();
    assert_eq!(begins, [40, 44, 48, 52, 56, 60]);
    assert_eq!(multirange_entry(1, 0, 0x8000_0000), None);
}

#[test]
fn multiranges_of_a_wrong_shape() {
    let one = [&short(3, b"ab")[..], &[0]].concat();
    let good = multirange(2, &[4], &[WITHOUT_UPPER; 2], &one.repeat(2));
    assert!(ranges(&good).is_ok());
    for length in 0..good.len() - 1 {
        assert_eq!(ranges(&good[..length]), Err(Damaged), "{length}");
    }
    for entry in [5, 8, 0x7fff_ffff, 0xffff_ffff, 0x8000_0005] {
        let datum = multirange(2, &[entry], &[WITHOUT_UPPER; 2], &one.repeat(2));
        assert_eq!(ranges(&datum), Err(Damaged), "{entry}");
    }
    for count in [-1, i32::MAX, i32::MIN, 100] {
        let datum = multirange(count.cast_unsigned(), &[4], &[WITHOUT_UPPER; 2], &one.repeat(2));
        assert_eq!(ranges(&datum), Err(Damaged), "{count}");
    }
}
