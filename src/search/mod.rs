//! Searching by encrypted values: equality, hashing, the order of unique indexes, blind indexes. `docs/searching.md` says
//! what each reveals; `sql/search.sql` declares them.

mod blind_index;
mod compare;
mod fast_path;
mod hashing;
pub mod index_build;
mod index_order;
pub mod index_warning;
mod operators;
pub mod readiness;
mod statistics;

/// Installs the hooks.
pub fn init() {
    statistics::init();
}
