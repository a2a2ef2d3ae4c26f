//! Where ciphertext is, and under which key versions. Needs no key. `sql/census.sql` puts it together.

mod constants;
mod count;
mod scan;
mod versions;

pub use constants::has_sealed_constant;
