//! The SQL functions around the type. `docs/sql-reference.md` describes them; `sql/functions.sql` declares them.

mod decrypt;
mod encrypt;
mod inspect;
mod mask_field;
mod reencrypt;
