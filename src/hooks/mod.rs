//! The hooks on the way of a statement through PostgreSQL, one of a kind. Each passes the call on, and before and after it calls
//! the modules whose business the statement is.
//!
//! 1. `analysis`: a statement was parsed and analysed; its sealed literals are marked.
//! 2. `planner`: its other constants are sealed, and the plan that holds some is marked.
//! 3. `executor`: a query is about to run; keys that its indexes may need are fetched.
//! 4. `utility`: any other statement is about to run, or has run.
//!
//! Hooks that are the business of one module alone are set there: the log's in `hygiene`, that of statistics in `search`, and that of
//! SECURITY DEFINER functions in `settings`.

mod analysis;
mod executor;
mod planner;
mod utility;

use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use utility::is_outermost;

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Installs them.
pub fn init() {
    // SAFETY: a global that PostgreSQL sets while it loads libraries.
    PRELOADED.store(unsafe { pg_sys::process_shared_preload_libraries_in_progress }, Relaxed);
    analysis::init();
    planner::init();
    executor::init();
    utility::init();
}

/// Whether they were there before any session: the library came in through `shared_preload_libraries`.
pub fn were_preloaded() -> bool {
    PRELOADED.load(Relaxed)
}
