//! Reads rows of tables that may belong to others.
//!
//! Not through SQL: planning a query on a table evaluates the constants in its index expressions and predicates, and so
//! runs its owner's functions with the caller's rights. Here PostgreSQL only reads rows.
//!
//! `open` locks a relation, and says what it is. Whether the caller may read it is for the caller of this to ask. Then `rows` reads
//! rows at several places of the heap.

mod open;
mod rows;

pub use open::{Open, place};
pub use rows::Rows;
