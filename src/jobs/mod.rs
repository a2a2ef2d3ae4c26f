//! What the engine of long work can't do in SQL. The engine is `sql/jobs/`: its tables, what a worker does next and records, and
//! the one loop that all kinds of jobs go through. See `docs/architecture.md` for the way of a batch.
//!
//! Before a function with its owner's rights is called, `caller` notes who calls it. `session` asks whether a procedure may commit,
//! bounds waits for locks, remembers that a scan met a value that can't be changed, and tells the stripe of a row. Once what the
//! statements of a batch deferred was done, before the commit, `deferral` refuses to defer anew. `waiting` sleeps by a clock that nobody sets. In the end `failure` raises a
//! recorded error again, with all its fields.

mod caller;
pub mod deferral;
mod failure;
mod session;
mod waiting;

pub use session::note_unreadable;
