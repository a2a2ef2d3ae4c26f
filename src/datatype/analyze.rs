//! ANALYZE: the share of nulls, the average width and, if all sampled values carry search tags, the number of distinct values.
//! Nothing is decrypted, so autovacuum needs no key, and `pg_statistic` holds no part of any value.
//!
//! PostgreSQL's statistics function for `bytea` runs on the search tags. The tags it would store (common values, a histogram)
//! are dropped: the numbers are enough to plan equality conditions.

use crate::datum::Stored;
use crate::error::{Error, SqlResult};
use crate::varlena::Varlena;
use pgrx::datum::{FromDatum, Internal};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ptr::null_mut;

/// The column in progress: ANALYZE processes one at a time.
#[derive(Clone, Copy)]
struct Column {
    /// Computes the statistics of `bytea`.
    compute: pg_sys::AnalyzeAttrComputeStatsFunc,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
}

thread_local! {
    static COLUMN: Cell<Column> = const { Cell::new(Column { compute: None, fetch: None }) };
}

/// `encrypted_text_typanalyze(internal) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_typanalyze(mut stats: Internal) -> SqlResult<bool> {
    // SAFETY: PostgreSQL passes a VacAttrStats to every typanalyze function. `std_typanalyze` derives operators and sample
    // size from the type in it.
    unsafe {
        let stats = stats.get_mut::<pg_sys::VacAttrStats>().ok_or(Error::Internal("no statistics"))?;
        let own_type = std::mem::replace(&mut stats.attrtypid, pg_sys::BYTEAOID);
        let is_possible = pg_sys::std_typanalyze(stats);
        stats.attrtypid = own_type;
        // The same function for every column.
        COLUMN.set(Column { compute: stats.compute_stats, ..COLUMN.get() });
        stats.compute_stats = Some(compute_stats);
        Ok(is_possible)
    }
}

/// What must be known before the statistics of the tags are computed.
struct Sample {
    /// Total stored size of the values, in bytes.
    width: f64,
    values: u32,
    untagged: u32,
}

#[pg_guard]
unsafe extern "C-unwind" fn compute_stats(
    stats: *mut pg_sys::VacAttrStats,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
    sampled: i32,
    total: f64,
) {
    // SAFETY: PostgreSQL passes valid statistics and the function that fetches one sampled row.
    unsafe {
        COLUMN.set(Column { fetch, ..COLUMN.get() });
        let Some(sample) = look_at(stats, fetch, sampled) else { return };
        let Some(compute) = COLUMN.get().compute.filter(|_| sample.untagged == 0 && sample.values > 0) else {
            let stats = &mut *stats;
            stats.stats_valid = true;
            stats.stanullfrac = 1.0 - sample.values as f32 / sampled as f32;
            stats.stawidth = sample.mean_width();
            // Unknown: without a key, two ciphertexts of the same plaintext look as different as any others.
            stats.stadistinct = 0.0;
            return;
        };
        compute(stats, Some(fetch_tag), sampled, total);
        let stats = &mut *stats;
        stats.stawidth = sample.mean_width();
        stats.stakind = Default::default();
        stats.numnumbers = Default::default();
        stats.numvalues = Default::default();
        stats.stanumbers = [null_mut(); 5];
        stats.stavalues = [null_mut(); 5];
    }
}

impl Sample {
    fn mean_width(&self) -> i32 {
        if self.values == 0 { 0 } else { (self.width / f64::from(self.values)) as i32 }
    }
}

/// Looks at every sampled row; `None` if there is none. Of a value that is stored out of line, only the front is fetched.
///
/// # Safety
/// The arguments are those of [`compute_stats`].
unsafe fn look_at(
    stats: *mut pg_sys::VacAttrStats,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
    sampled: i32,
) -> Option<Sample> {
    let fetch = fetch.filter(|_| sampled > 0)?;
    let mut sample = Sample { width: 0.0, values: 0, untagged: 0 };
    for row in 0..sampled {
        let mut is_null = false;
        // SAFETY: as promised by the caller; the value is an `encrypted_text`.
        unsafe {
            let value = fetch(stats, row, &mut is_null);
            if let Some(stored) = Stored::from_datum(value, is_null) {
                sample.values += 1;
                sample.width += pg_sys::toast_datum_size(value) as f64;
                sample.untagged += u32::from(stored.search_tag().is_none());
            }
        }
    }
    Some(sample)
}

/// The search tag of a sampled row, as a `bytea`.
#[pg_guard]
unsafe extern "C-unwind" fn fetch_tag(
    stats: pg_sys::VacAttrStatsP,
    row: i32,
    is_null: *mut bool,
) -> pg_sys::Datum {
    // SAFETY: passes on PostgreSQL's own arguments; the value is an `encrypted_text`. The copy lives until ANALYZE is done with
    // the column.
    unsafe {
        let Some(fetch) = COLUMN.get().fetch else { return pg_sys::Datum::null() };
        let value = fetch(stats, row, is_null);
        let tag = Stored::from_datum(value, *is_null).and_then(|stored| stored.search_tag());
        match tag.and_then(|tag| Varlena::copy_of(tag.as_bytes()).ok()) {
            Some(tag) => tag.datum(),
            None => {
                *is_null = true;
                pg_sys::Datum::null()
            }
        }
    }
}
