//! Searching by encrypted values: equality, hashing, the order of unique indexes, blind indexes. `docs/searching.md` says
//! what each reveals; `sql/search.sql` declares them.

mod blind_index;
mod compare;
mod hashing;
pub mod index_build;
pub mod index_warning;
mod operators;
mod order;
pub mod readiness;
mod statistics;
mod usual;

/// Installs the hooks.
pub fn init() {
    statistics::init();
}
