//! The census: where ciphertext is, and under which key versions. It needs no key.
//!
//! `sql/census/census.sql` goes over tables and stored expressions, and calls for each:
//!
//! 1. `count` counts the versions in the columns of a table, and the search tags of earlier index keys. It leaves the rows to
//!    `scan`, which reads them without planning a query and looks inside values that hold others.
//! 2. `stored_expressions` finds the versions of constants in defaults, constraints, views and the like.
//! 3. `versions` gives the versions in one value.

mod count;
mod scan;
mod stored_expressions;
mod versions;

pub use stored_expressions::has_sealed_constant;
