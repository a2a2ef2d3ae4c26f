//! Waits by a monotonic clock. `pg_sleep()` uses the time of day: if that is set back, it sleeps longer.

use pgrx::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static BEGINNING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// `prism_crypt._uptime() → double precision`: seconds since the first call in this session.
#[pg_extern(sql = false)]
fn _uptime() -> f64 {
    let now = Instant::now();
    let beginning = BEGINNING.get().unwrap_or(now);
    BEGINNING.set(Some(beginning));
    now.saturating_duration_since(beginning).as_secs_f64()
}

/// `prism_crypt._sleep(seconds double precision)`: ends early only if the statement is cancelled or the session ends.
#[pg_extern(sql = false)]
fn _sleep(seconds: f64) {
    let Ok(whole) = Duration::try_from_secs_f64(seconds) else { return };
    let beginning = Instant::now();
    loop {
        pgrx::check_for_interrupts!();
        let rest = whole.saturating_sub(beginning.elapsed());
        if rest.is_zero() {
            return;
        }
        // Slices fit any integer type, and are never zero, which would not wait.
        let milliseconds = rest.as_millis().clamp(1, 60_000) as std::ffi::c_long;
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: the latch of this process, used as in every wait of a backend. An interrupt sets it.
        unsafe {
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
}
