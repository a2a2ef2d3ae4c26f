//! Searching by encrypted values. `docs/searching.md` says what each way reveals; `sql/search/operators.sql` declares them.
//!
//! - A comparison begins in `fast_path`, which answers for values that carry search tags. Whatever else there is goes to `operators`
//!   (`=`, `<>`), `hashing` or `index_order`, and these are made of the one comparison in `compare`.
//! - `readiness` has the keys there before an index may need them: with a page locked nothing can be fetched.
//! - `blind_index` is the keyed hash for a column of its own.
//! - Around indexes: `index_build` builds them anew when their key changes, `table_locks` locks their tables for that,
//!   `index_warning` tells of those that open values, and `statistics` keeps common values from the planner.
//!
//! The constants that values are compared with were sealed before: see `query_constants`.

mod blind_index;
mod compare;
mod fast_path;
mod hashing;
mod index_build;
mod index_order;
pub mod index_warning;
mod operators;
pub mod readiness;
mod statistics;
mod table_locks;

/// Installs the hooks.
pub fn init() {
    statistics::init();
}
