//! Reads rows at several places of a heap, and writes them to another one.

use super::open::{Open, place};
use pgrx::{PgMemoryContexts, check_for_interrupts, pg_sys};
use std::ptr::null_mut;

/// At how many places rows are read, evenly spaced: a half-done rotation has finished one half of the table.
const RUNS: u32 = 16;

pub struct Copying<'a> {
    source: &'a Open,
    copy: &'a Open,
    /// Where each column of the copy is in the source.
    places: Vec<usize>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    snapshot: pg_sys::Snapshot,
}

impl<'a> Copying<'a> {
    /// # Safety
    /// Both are heaps that can be read and written here. The numbers are columns of the source. The copy has as many
    /// columns, of the same stored types.
    pub unsafe fn new(source: &'a Open, copy: &'a Open, columns: &[i16]) -> Self {
        let width = source.descriptor().len();
        Self {
            source,
            copy,
            places: columns.iter().filter_map(|number| place(*number)).collect(),
            values: vec![pg_sys::Datum::null(); width],
            nulls: vec![true; width],
            // SAFETY: taken after the lock, so that a rewrite of the table doesn't hide its rows from us. After an
            // error PostgreSQL releases it.
            snapshot: unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) },
        }
    }

    /// Copies `most` rows, or all if there are fewer. Returns how many.
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
        // SAFETY: registered by `new`, and not used again.
        unsafe { pg_sys::UnregisterSnapshot(self.snapshot) };
        copied
    }

    /// Rows that one run doesn't find are left to the next ones.
    fn copy_runs(&mut self, blocks: u32, most: u32) -> u32 {
        let runs = RUNS.min(blocks).min(most);
        let mut copied = 0;
        for run in 0..runs {
            let begin = part(blocks, run, runs);
            let wanted = (most - copied).div_ceil(runs - run);
            // A table that is mostly dead space is not read in full for the few rows it has.
            let length = (part(blocks, run + 1, runs) - begin).min(wanted);
            copied += self.copy_run(begin, length, wanted);
        }
        copied
    }

    /// Takes `wanted` rows from the first blocks that have that many. Within a block, those that a rotation has changed
    /// may come before the others, so it draws at random, but always the same rows.
    fn copy_run(&mut self, begin: u32, length: u32, wanted: u32) -> u32 {
        if length == 0 || wanted == 0 {
            return 0;
        }
        let (mut seen, mut last_block) = (0_u32, begin);
        self.each_row(begin, length, |_, tuple| {
            // SAFETY: a heap row says where it is.
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
            // Knuth's algorithm S: each remaining row is equally likely to be taken.
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if ((lot >> 32) * u64::from(left)) >> 32 < u64::from(wanted - copied) {
                // SAFETY: a row of the source. What is allocated to store it is in this context, and not used again.
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

    /// Passes the rows of some blocks to `see` until it returns false.
    fn each_row(
        &mut self,
        begin: u32,
        length: u32,
        mut see: impl FnMut(&mut Self, pg_sys::HeapTuple) -> bool,
    ) {
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN
            | pg_sys::ScanOptions::SO_ALLOW_STRAT
            | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
        // SAFETY: the usual scan of a heap with a registered snapshot. Limits may be set, because it has not begun and
        // is not synchronized with other scans. Each row is used before the next is fetched.
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

    /// PostgreSQL fetches values that are stored out of line when it stores the row.
    ///
    /// # Safety
    /// `tuple` is a row of the source.
    unsafe fn copy_row(&mut self, tuple: pg_sys::HeapTuple) {
        // SAFETY: there is room for each column of the source. Values of columns that were added without a rewrite come
        // from the descriptor. Dropped columns are not in the copy, whose columns have the same types.
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

/// The block where part `run` of `runs` parts of a table begins.
fn part(blocks: u32, run: u32, runs: u32) -> u32 {
    // Not more than `blocks`.
    (u64::from(blocks) * u64::from(run) / u64::from(runs)) as u32
}
