//! Searching by encrypted values: equality, hashing, the order of unique indexes, blind indexes. `docs/searching.md` says
//! what each reveals; `sql/search.sql` declares them.

mod array_constants;
mod attempt;
mod blind_index;
mod compare;
mod constants;
mod hashing;
pub mod index_build;
pub mod index_warning;
mod mark;
mod operators;
mod order;
pub mod readiness;
mod simplify;
mod statistics;
mod usual;
mod views;

/// Installs the hooks.
pub fn init() {
    constants::init();
    mark::init();
    readiness::init();
    views::init();
    statistics::init();
}
