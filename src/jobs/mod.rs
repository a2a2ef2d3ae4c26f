//! What the job engine can't do in SQL. The engine is `sql/jobs/`: its tables, what a worker does next and records, and the one
//! loop for all kinds of jobs. `docs/architecture.md` follows a batch through it.
//!
//! Before a SECURITY DEFINER function is called, `caller` notes who calls it. `session` checks whether a procedure may commit,
//! limits waits for locks, remembers that a scan met a value that can't be changed, and gives the stripe of a row. While a batch
//! runs what its statements deferred, before the commit, `deferral` keeps anything from being deferred again. `waiting` sleeps by
//! a monotonic clock. At the end `failure` raises a recorded error again, with all its fields. `statement_worker` runs what PostgreSQL
//! refuses inside a procedure.

mod caller;
pub mod deferral;
mod failure;
mod session;
mod statement_worker;
mod waiting;

pub use session::note_unreadable;
