//! The SQL functions around the type. `docs/sql-reference.md` describes them; `sql/functions.sql` declares them.

pub mod decrypt;
mod encrypt;
mod inspect;
pub mod mask;
mod reencrypt;
mod status;
