//! The SQL functions around the type. `docs/sql-reference.md` describes them; `sql/functions/functions.sql` declares them.
//!
//! Functions that seal, open or reseal check EXECUTE themselves (`privilege::require_execute`), turn their arguments into what
//! the keyring takes (context, class, keyset), and hand over. Sealing, opening and resealing belong to the keyring, text encoding
//! to the type. These are `encrypt`, `decrypt`, `mask_field` and `reencrypt`; `inspect` reads what a value reveals without a key.

mod decrypt;
mod encrypt;
mod inspect;
mod mask_field;
mod reencrypt;
