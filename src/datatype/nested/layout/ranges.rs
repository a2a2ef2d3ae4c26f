//! Where the bounds of ranges and multiranges lie (PostgreSQL's `rangetypes.c` and `multirangetypes.c`).

use super::{Damaged, Layout, read_i32, start, value_end};
use std::ops::Range;

/// Where a multirange stores the number of its ranges: after its type.
const COUNT_AT: usize = size_of::<[u32; 2]>();
const MULTIRANGE_ITEMS_AT: usize = size_of::<[u32; 3]>();
/// Set in the entry of every fourth range: that entry counts from the first range, others from the previous one
/// (`multirangetypes.c`).
const IS_FROM_FIRST: u32 = 0x8000_0000;
const FROM_FIRST_EVERY: usize = 4;

/// Where the bounds of a range begin: after its type.
pub const BOUNDS_AT: usize = size_of::<[u32; 2]>();

/// The bounds of one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// `None` if there is none: the range is empty, or unbounded on this side.
    pub lower: Option<Range<usize>>,
    pub upper: Option<Range<usize>>,
}

impl Bounds {
    /// The bounds that begin at `at`, of a range with these flags; and where they end.
    fn at(datum: &[u8], at: usize, flags: u8, layout: Layout) -> Option<(Self, usize)> {
        const EMPTY: u8 = 0x01;
        const NO_LOWER: u8 = EMPTY | 0x08 | 0x20;
        const NO_UPPER: u8 = EMPTY | 0x10 | 0x40;
        let lower = match flags & NO_LOWER {
            0 => Some(at..value_end(datum, at, layout)?),
            _ => None,
        };
        let at = lower.as_ref().map_or(at, |lower| lower.end);
        let upper = match flags & NO_UPPER {
            0 => {
                let at = start(datum, at, layout);
                Some(at..value_end(datum, at, layout)?)
            }
            _ => None,
        };
        let end = upper.as_ref().map_or(at, |upper| upper.end);
        Some((Self { lower, upper }, end))
    }

    /// The bounds of a range, given from its length word to its end. They follow its type; its flags come last.
    pub fn of_range(datum: &[u8], layout: Option<Layout>) -> Result<Self, Damaged> {
        let inside = datum.split_last().zip(layout).filter(|((_, rest), _)| rest.len() >= BOUNDS_AT);
        inside
            .and_then(|((flags, rest), layout)| Self::at(rest, BOUNDS_AT, *flags, layout))
            .map(|(bounds, _)| bounds)
            .ok_or(Damaged)
    }
}

/// The ranges of a multirange, in order. After their number come entries that locate all but the first, then the flags of each,
/// then the bounds.
#[derive(Debug)]
pub struct Ranges<'a> {
    datum: &'a [u8],
    flags: &'a [u8],
    layout: Layout,
    first_at: usize,
    index: usize,
    /// The offset of the previous range from the first.
    from_first: usize,
}

impl<'a> Ranges<'a> {
    /// The ranges of a multirange, given from its length word to its end.
    pub fn of(datum: &'a [u8], layout: Option<Layout>) -> Result<Self, Damaged> {
        Self::checked(datum, layout).ok_or(Damaged)
    }

    fn checked(datum: &'a [u8], layout: Option<Layout>) -> Option<Self> {
        let layout = layout?;
        let count = usize::try_from(read_i32(datum, COUNT_AT)?).ok()?;
        let flags_at = MULTIRANGE_ITEMS_AT + count.saturating_sub(1) * size_of::<u32>();
        let flags = datum.get(flags_at..flags_at.checked_add(count)?)?;
        let first_at = (flags_at + count).next_multiple_of(layout.alignment);
        // A multirange without ranges may lack the padding.
        if count > 0 {
            datum.get(first_at..)?;
        }
        Some(Self { datum, flags, layout, first_at, index: 0, from_first: 0 })
    }

    /// Where the bounds of the first range begin.
    pub fn first_at(&self) -> usize {
        self.first_at
    }

    fn bounds(&mut self, flags: u8) -> Option<Bounds> {
        if self.index > 0 {
            let entry = read_i32(self.datum, multirange_entry_at(self.index))?.cast_unsigned();
            let length = usize::try_from(entry & !IS_FROM_FIRST).ok()?;
            self.from_first = if entry & IS_FROM_FIRST == 0 { self.from_first + length } else { length };
        }
        let at = self.first_at.checked_add(self.from_first)?;
        let is_aligned = self.from_first.is_multiple_of(self.layout.alignment);
        let (bounds, _) = Bounds::at(self.datum, at, flags, self.layout).filter(|_| is_aligned)?;
        Some(bounds)
    }
}

impl Iterator for Ranges<'_> {
    type Item = Result<Bounds, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        let flags = *self.flags.get(self.index)?;
        let bounds = self.bounds(flags).ok_or(Damaged);
        self.index = if bounds.is_ok() { self.index + 1 } else { self.flags.len() };
        Some(bounds)
    }
}

/// Where the entry of a range is. The first range has none.
pub fn multirange_entry_at(index: usize) -> usize {
    MULTIRANGE_ITEMS_AT + (index - 1) * size_of::<u32>()
}

/// The entry of a range that begins `from_first` bytes after the first one and `from_last` bytes after the previous one; `None`
/// if that does not fit.
pub fn multirange_entry(index: usize, from_first: usize, from_last: usize) -> Option<u32> {
    let is_from_first = index.is_multiple_of(FROM_FIRST_EVERY);
    let entry = u32::try_from(if is_from_first { from_first } else { from_last }).ok()?;
    (entry & IS_FROM_FIRST == 0).then_some(if is_from_first { entry | IS_FROM_FIRST } else { entry })
}
