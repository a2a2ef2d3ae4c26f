//! The census: where ciphertext is, and under which key versions. It needs no key.
//!
//! `sql/census/census.sql` goes over tables and stored expressions, and asks here about each:
//!
//! 1. `count` counts the versions in the columns of a table, and the search tags of earlier index keys. It looks at no row itself:
//!    `scan` reads them, without planning a query, and takes values apart that hold others.
//! 2. `stored_expressions` finds the constants in defaults, constraints, views and the like.
//! 3. `versions` tells those in one value.

mod count;
mod scan;
mod stored_expressions;
mod versions;

pub use stored_expressions::has_sealed_constant;
