//! Seals the constants that queries compare encrypted values with: once per plan instead of once per row, and so that EXPLAIN,
//! including that of auto_explain, shows ciphertext.
//!
//! 1. The input function (`datatype::text_io`) seals a literal of type `encrypted_text` while its statement is analysed.
//!    `mark` wraps it, so that plans made from the statement can be recognised; not in a view (`view_definition`), which is
//!    stored.
//! 2. Before the statement is planned, `comparisons` seals the texts of `= ANY`, `IS DISTINCT FROM` and `NULLIF`, as far as
//!    `evaluation` can compute them by then; `arrays` seals those in arrays, and, for PostgreSQL 18, `values_lists` those in VALUES. What
//!    may fail is computed in a `subtransaction`.
//! 3. During planning, PostgreSQL calls `eq_support` for each `=` and `<>`, and `array_support` for operators between arrays of values and
//!    of texts. `array_casts` finds those of PostgreSQL whose texts are cast.
//! 4. `with_text` finds the operator that replaces one with text, and makes the constant.
//! 5. `mark` marks the plan. When the keyset or the key changes, `plan_cache` invalidates such plans.

mod array_casts;
mod array_support;
mod arrays;
mod comparisons;
mod eq_support;
mod evaluation;
mod mark;
mod subtransaction;
#[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17")))]
mod values_lists;
pub mod view_definition;
mod with_text;

pub use comparisons::seal_in;
pub use eq_support::call_to_simplify;
pub use mark::{mark_literals, mark_plan};
pub use view_definition::init;
pub use with_text::{constant, operator_of};
