//! The hooks on a statement's way through PostgreSQL, one of each kind. Each passes the call on, and before and after that calls
//! the modules that the statement concerns.
//!
//! 1. `analysis`: a statement was parsed and analysed; refuses one that orders by values, and marks its sealed literals.
//! 2. `planner`: refuses what such an order hides in, seals other constants, and marks a plan that holds any.
//! 3. `executor`: a query is about to run; fetches keys that its indexes may need.
//! 4. `utility`: any other statement is about to run, or has run.
//!
//! Hooks that concern a single module are set there: the log hook in `hygiene`, the statistics hook in `search`, and the hook for
//! SECURITY DEFINER functions in `settings`.

mod analysis;
mod executor;
mod planner;
mod utility;

use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use utility::is_outermost;

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Installs the hooks.
pub fn init() {
    // SAFETY: a global that PostgreSQL sets while it loads libraries.
    PRELOADED.store(unsafe { pg_sys::process_shared_preload_libraries_in_progress }, Relaxed);
    analysis::init();
    planner::init();
    executor::init();
    utility::init();
}

/// Whether the hooks were installed before any session: the library was loaded by `shared_preload_libraries`.
pub fn were_preloaded() -> bool {
    PRELOADED.load(Relaxed)
}
