//! Searching encrypted values. `docs/searching.md` says what each way reveals; `sql/search/operators.sql` declares the
//! operators.
//!
//! - A comparison starts in `fast_path`, which handles values that carry search tags, and constants (`constant_tag`). Everything else goes to `operators`
//!   (`=`, `<>`), `hashing` or `index_order`, which all build on the one comparison in `compare`. So does `arrays`.
//! - `readiness` fetches the keys before an index may need them: while a page is locked, nothing can be fetched.
//! - `blind_index` is the keyed hash for a separate column.
//! - `explicit_order` refuses statements that order by values, also in `anonymous_rows`: the order of indexes must not show.
//! - `hidden_equality` restores `=` and `<>` where the `search_path` hides them.
//! - Around indexes: `index_build` rebuilds them when their key changes, `table_locks` locks their tables for that,
//!   `index_warning` warns about those that open values, and `statistics` hides common values from the planner.
//!
//! The constants that values are compared with are sealed earlier: see `query_constants`.

pub mod anonymous_rows;
mod arrays;
mod blind_index;
mod compare;
mod constant_tag;
pub mod explicit_order;
mod fast_path;
mod hashing;
pub mod hidden_equality;
mod index_build;
mod index_order;
pub mod index_warning;
mod operators;
pub mod readiness;
pub mod statistics;
mod table_locks;

/// Installs the hooks.
pub fn init() {
    statistics::init();
}
