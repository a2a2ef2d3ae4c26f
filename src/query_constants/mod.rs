//! Sealing of the constants that queries compare encrypted values with: once for a plan and not once for a row, and so that
//! EXPLAIN, also that of auto_explain, shows ciphertext.
//!
//! 1. A literal of type `encrypted_text` is sealed by the input function (`datatype::text_io`) while its statement is analysed.
//!    `mark` wraps it, so that plans made of the statement can be told; not in a view (`view_definition`), which is stored.
//! 2. Before the statement is planned, `comparisons` seals the texts of `= ANY`, `IS DISTINCT FROM` and `NULLIF`, as far as
//!    `evaluation` can tell them by then, and `arrays` those in arrays. What may fail is computed in a `subtransaction`.
//! 3. While it is planned, PostgreSQL asks `eq_support` about each `=` and `<>`.
//! 4. `with_text` finds the operator that takes the place of one with text, and makes the constant.
//! 5. `mark` marks the plan. When keyset or key change, `plan_cache` has such plans made anew.

mod arrays;
mod comparisons;
mod eq_support;
mod evaluation;
mod mark;
mod subtransaction;
pub mod view_definition;
mod with_text;

pub use comparisons::seal_in;
pub use eq_support::call_to_simplify;
pub use mark::{mark_literals, mark_plan};
pub use view_definition::init;
pub use with_text::constant;
