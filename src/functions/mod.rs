//! The SQL functions around the type. `docs/sql-reference.md` describes them; `sql/functions/functions.sql` declares them.
//!
//! Each function asks for EXECUTE itself where it opens or reseals (`privilege::require_execute`), makes of its arguments what
//! the keyring takes (context, class, keyset), and hands over: sealing, opening and resealing are the keyring's, text and its
//! encoding are the type's. `encrypt`, `decrypt`, `mask_field` and `reencrypt` do that; `inspect` reads what a value tells without
//! a key.

mod decrypt;
mod encrypt;
mod inspect;
mod mask_field;
mod reencrypt;
