//! Where ciphertext is, and under which key versions. Needs no key. `sql/census.sql` puts it together.

mod count;
mod scan;
mod stored_expressions;
mod versions;

pub use stored_expressions::has_sealed_constant;
