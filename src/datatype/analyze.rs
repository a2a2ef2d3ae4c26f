//! ANALYZE: the share of nulls and the width. Nothing is opened, so autovacuum needs no key, and `pg_statistic` holds
//! nothing of any value.

use crate::error::{Error, SqlResult};
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// As many rows as PostgreSQL samples for statistics of the same kind: 300 for each unit of the statistics target.
const ROWS_PER_TARGET: i32 = 300;

/// `encrypted_text_typanalyze(internal) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_typanalyze(mut stats: Internal) -> SqlResult<bool> {
    // SAFETY: PostgreSQL passes a VacAttrStats to every typanalyze function.
    unsafe {
        let stats = stats.get_mut::<pg_sys::VacAttrStats>().ok_or(Error::Internal("no statistics"))?;
        stats.compute_stats = Some(compute_stats);
        stats.minrows = ROWS_PER_TARGET * statistics_target(stats);
    }
    Ok(true)
}

/// # Safety
/// `stats` is what PostgreSQL passed.
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
#[allow(clippy::useless_conversion, reason = "16 bits wide in PostgreSQL 16")]
unsafe fn statistics_target(stats: &pg_sys::VacAttrStats) -> i32 {
    // SAFETY: the attribute belongs to the statistics. -1 is the server's default.
    let target = i32::from(unsafe { (*stats.attr).attstattarget });
    // SAFETY: a global.
    if target < 0 { unsafe { pg_sys::default_statistics_target } } else { target }
}

/// # Safety
/// `stats` is what PostgreSQL passed.
#[cfg(any(feature = "pg17", feature = "pg18"))]
unsafe fn statistics_target(stats: &pg_sys::VacAttrStats) -> i32 {
    // SAFETY: a global.
    if stats.attstattarget < 0 { unsafe { pg_sys::default_statistics_target } } else { stats.attstattarget }
}

#[pg_guard]
unsafe extern "C-unwind" fn compute_stats(
    stats: *mut pg_sys::VacAttrStats,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
    sampled: i32,
    _total: f64,
) {
    // SAFETY: PostgreSQL passes its statistics and the function that fetches one sampled row. A value stored elsewhere
    // is measured without being fetched.
    unsafe {
        let Some(fetch) = fetch else { return };
        let stats = &mut *stats;
        let (mut nulls, mut width) = (0_u32, 0.0_f64);
        for row in 0..sampled {
            let mut is_null = false;
            let value = fetch(stats, row, &mut is_null);
            if is_null {
                nulls += 1;
            } else {
                width += pg_sys::toast_datum_size(value) as f64;
            }
        }
        if sampled <= 0 {
            return;
        }
        let values = f64::from(sampled) - f64::from(nulls);
        stats.stats_valid = true;
        stats.stanullfrac = nulls as f32 / sampled as f32;
        stats.stawidth = if values > 0.0 { (width / values) as i32 } else { 0 };
        // Unknown: without a key nothing tells two ciphertexts of one plaintext from two of different ones.
        stats.stadistinct = 0.0;
    }
}
