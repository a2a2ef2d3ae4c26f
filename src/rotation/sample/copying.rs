//! Reads rows at some places of a heap, and writes them to another one.

use super::open::{Open, place};
use pgrx::{PgMemoryContexts, check_for_interrupts, pg_sys};
use std::ptr::null_mut;

/// At how many places rows are read, evenly spaced: a rotation that is half done has one half of a table behind it.
const RUNS: u32 = 16;

pub struct Copying<'a> {
    source: &'a Open,
    copy: &'a Open,
    /// Of the source, where each column of the copy is.
    places: Vec<usize>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    snapshot: pg_sys::Snapshot,
}

impl<'a> Copying<'a> {
    /// # Safety
    /// Both are heaps that can be read and written here, the numbers are columns of the source, the copy has as many, and of the
    /// same stored types.
    pub unsafe fn new(source: &'a Open, copy: &'a Open, columns: &[i16]) -> Self {
        let width = source.descriptor().len();
        Self {
            source,
            copy,
            places: columns.iter().filter_map(|number| place(*number)).collect(),
            values: vec![pg_sys::Datum::null(); width],
            nulls: vec![true; width],
            // SAFETY: it is taken after the lock, so that nobody who rewrote the table hides its rows from us. After an error
            // PostgreSQL lets it go.
            snapshot: unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) },
        }
    }

    /// Copies so many rows, or all where there are no more. Gives their number.
    pub fn sample(mut self, most: u32) -> u32 {
        // SAFETY: the relation is open.
        let blocks = unsafe {
            pg_sys::RelationGetNumberOfBlocksInFork(self.source.relation(), pg_sys::ForkNumber::MAIN_FORKNUM)
        };
        let mut copied = self.copy_runs(blocks, most);
        if copied == 0 {
            // Few rows in many blocks.
            copied = self.copy_run(0, blocks, most);
        }
        // SAFETY: registered above, and used no more.
        unsafe { pg_sys::UnregisterSnapshot(self.snapshot) };
        copied
    }

    /// What one run does not find is left to the next ones.
    fn copy_runs(&mut self, blocks: u32, most: u32) -> u32 {
        let runs = RUNS.min(blocks).min(most);
        let mut copied = 0;
        for run in 0..runs {
            let begin = part(blocks, run, runs);
            let wanted = (most - copied).div_ceil(runs - run);
            // A table that is mostly dead space is not read through for what little it has.
            let length = (part(blocks, run + 1, runs) - begin).min(wanted);
            copied += self.copy_run(begin, length, wanted);
        }
        copied
    }

    /// Takes so many rows from the first blocks that have as many. In a block those that a rotation has been at may come before the
    /// others, so it draws lots, always the same ones.
    fn copy_run(&mut self, begin: u32, length: u32, wanted: u32) -> u32 {
        if length == 0 || wanted == 0 {
            return 0;
        }
        let (mut seen, mut last_block) = (0_u32, begin);
        self.each_row(begin, length, |_, tuple| {
            // SAFETY: a row of a heap, which says where it is.
            let block = unsafe { pgrx::itemptr::item_pointer_get_block_number(&raw const (*tuple).t_self) };
            if seen >= wanted && block != last_block {
                return false;
            }
            (seen, last_block) = (seen.saturating_add(1), block);
            true
        });
        let wanted = wanted.min(seen);
        let mut memory = PgMemoryContexts::new("prism_crypt sample");
        let (mut left, mut copied, mut lot) = (seen, 0, u64::from(begin));
        self.each_row(begin, length, |this, tuple| {
            // Knuth's algorithm S: each of those that are left is as likely to be taken.
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if ((lot >> 32) * u64::from(left)) >> 32 < u64::from(wanted - copied) {
                // SAFETY: a row of the source. What it takes to store it is in this memory, and used no more.
                unsafe {
                    memory.switch_to(|_| this.copy_row(tuple));
                    memory.reset();
                }
                copied += 1;
            }
            left = left.saturating_sub(1);
            copied < wanted
        });
        copied
    }

    /// Shows rows of some blocks until `see` has enough.
    fn each_row(
        &mut self,
        begin: u32,
        length: u32,
        mut see: impl FnMut(&mut Self, pg_sys::HeapTuple) -> bool,
    ) {
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN
            | pg_sys::ScanOptions::SO_ALLOW_STRAT
            | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
        // SAFETY: the usual scan of a heap with a registered snapshot. Limits may be set, for it has not begun, and does not join
        // one of another session. Each row is used before the next is fetched.
        unsafe {
            let scan = pg_sys::heap_beginscan(
                self.source.relation(),
                self.snapshot,
                0,
                null_mut(),
                null_mut(),
                flags,
            );
            pg_sys::heap_setscanlimits(scan, begin, length);
            loop {
                check_for_interrupts!();
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() || !see(self, tuple) {
                    break;
                }
            }
            pg_sys::heap_endscan(scan);
        }
    }

    /// Values that are stored elsewhere are fetched by PostgreSQL, when it stores the row.
    ///
    /// # Safety
    /// `tuple` is a row of the source.
    unsafe fn copy_row(&mut self, tuple: pg_sys::HeapTuple) {
        // SAFETY: there is room for the values of each column of the source. Those that were added without a rewrite of the table
        // come from its descriptor; dropped ones are not in the copy, whose columns are of the same types.
        unsafe {
            pg_sys::heap_deform_tuple(
                tuple,
                (*self.source.relation()).rd_att,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
            let mut values: Vec<_> = self.places.iter().map(|place| self.values[*place]).collect();
            let mut nulls: Vec<_> = self.places.iter().map(|place| self.nulls[*place]).collect();
            let row = pg_sys::heap_form_tuple(
                (*self.copy.relation()).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::simple_heap_insert(self.copy.relation(), row);
        }
    }
}

/// Where one of so many parts of a table begins.
fn part(blocks: u32, run: u32, runs: u32) -> u32 {
    // Not more than `blocks`.
    (u64::from(blocks) * u64::from(run) / u64::from(runs)) as u32
}
