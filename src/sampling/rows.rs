//! Reads rows at several places of a heap.

use super::open::Open;
use crate::error::Error;
use pgrx::{PgMemoryContexts, check_for_interrupts, pg_sys};
use std::ptr::null_mut;

/// At how many places rows are read, evenly spaced: a half-done rotation has finished one half of the table.
const RUNS: u32 = 16;

/// Gets the values of a row, and which of them are null, by the place of each column. They are gone after the call, with all that it
/// allocates.
type Take<'a> = &'a mut dyn FnMut(&[pg_sys::Datum], &[bool]) -> Result<(), Error>;

pub struct Rows<'a> {
    source: &'a Open,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    snapshot: pg_sys::Snapshot,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// It stores rows in a heap, and can be read here.
    pub unsafe fn new(source: &'a Open) -> Self {
        let width = source.descriptor().len();
        Self {
            source,
            values: vec![pg_sys::Datum::null(); width],
            nulls: vec![true; width],
            // SAFETY: taken after the lock, so that a rewrite of the table doesn't hide its rows from us. After an
            // error PostgreSQL releases it.
            snapshot: unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) },
        }
    }

    /// Passes `most` rows to `take`, or all if there are fewer. Returns how many.
    pub fn sample(mut self, most: u32, take: Take<'_>) -> Result<u32, Error> {
        // SAFETY: the relation is open.
        let blocks = unsafe {
            pg_sys::RelationGetNumberOfBlocksInFork(self.source.relation(), pg_sys::ForkNumber::MAIN_FORKNUM)
        };
        let mut taken = self.take_runs(blocks, most, take)?;
        if taken == 0 {
            // Few rows in many blocks.
            taken = self.take_run(0, blocks, most, take)?;
        }
        // SAFETY: registered by `new`, and not used again.
        unsafe { pg_sys::UnregisterSnapshot(self.snapshot) };
        Ok(taken)
    }

    /// Rows that one run doesn't find are left to the next ones.
    fn take_runs(&mut self, blocks: u32, most: u32, take: Take<'_>) -> Result<u32, Error> {
        let runs = RUNS.min(blocks).min(most);
        let mut taken = 0;
        for run in 0..runs {
            let begin = part(blocks, run, runs);
            let wanted = (most - taken).div_ceil(runs - run);
            // A table that is mostly dead space is not read in full for the few rows it has.
            let length = (part(blocks, run + 1, runs) - begin).min(wanted);
            taken += self.take_run(begin, length, wanted, take)?;
        }
        Ok(taken)
    }

    /// Takes `wanted` rows from the first blocks that have that many. Within a block, those that a rotation has changed
    /// may come before the others, so it draws at random, but always the same rows.
    fn take_run(&mut self, begin: u32, length: u32, wanted: u32, take: Take<'_>) -> Result<u32, Error> {
        if length == 0 || wanted == 0 {
            return Ok(0);
        }
        let (mut seen, mut last_block) = (0_u32, begin);
        self.each_row(begin, length, |_, tuple| {
            // SAFETY: a heap row says where it is.
            let block = unsafe { pgrx::itemptr::item_pointer_get_block_number(&raw const (*tuple).t_self) };
            if seen >= wanted && block != last_block {
                return Ok(false);
            }
            (seen, last_block) = (seen.saturating_add(1), block);
            Ok(true)
        })?;
        let wanted = wanted.min(seen);
        let mut memory = PgMemoryContexts::new("prism_crypt sample");
        let (mut left, mut taken, mut lot) = (seen, 0, u64::from(begin));
        self.each_row(begin, length, |this, tuple| {
            // Knuth's algorithm S: each remaining row is equally likely to be taken.
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if ((lot >> 32) * u64::from(left)) >> 32 < u64::from(wanted - taken) {
                // SAFETY: a row of the source. What is allocated for it is in this context, and not used again.
                unsafe {
                    memory.switch_to(|_| this.take_row(tuple, take))?;
                    memory.reset();
                }
                taken += 1;
            }
            left = left.saturating_sub(1);
            Ok(taken < wanted)
        })?;
        Ok(taken)
    }

    /// Passes the rows of some blocks to `see` until it returns false.
    fn each_row(
        &mut self,
        begin: u32,
        length: u32,
        mut see: impl FnMut(&mut Self, pg_sys::HeapTuple) -> Result<bool, Error>,
    ) -> Result<(), Error> {
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
            let mut result = Ok(true);
            while let Ok(true) = result {
                check_for_interrupts!();
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                result = see(self, tuple);
            }
            pg_sys::heap_endscan(scan);
            result.map(|_| ())
        }
    }

    /// # Safety
    /// `tuple` is a row of the source.
    unsafe fn take_row(&mut self, tuple: pg_sys::HeapTuple, take: Take<'_>) -> Result<(), Error> {
        // SAFETY: there is room for each column of the source. Values of columns that were added without a rewrite come
        // from the descriptor.
        unsafe {
            pg_sys::heap_deform_tuple(
                tuple,
                (*self.source.relation()).rd_att,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
        }
        take(&self.values, &self.nulls)
    }
}

/// The block where part `run` of `runs` parts of a table begins.
fn part(blocks: u32, run: u32, runs: u32) -> u32 {
    // Not more than `blocks`.
    (u64::from(blocks) * u64::from(run) / u64::from(runs)) as u32
}
