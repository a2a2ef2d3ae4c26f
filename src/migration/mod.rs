//! What the migration of a column from plaintext to ciphertext can't do in SQL. Its phases, and what they do to the table, are in
//! `sql/migration/`.
//!
//! `plaintext` reads and writes the plaintext of a value of any type that a migration takes. With it, `conversion` makes the value of
//! one column from that of the other, and compares them. `keep_in_step` is the trigger that does so for each row that is written,
//! and `compare` the function that a verification calls for each row; both keep what they looked up by `call_cache`. `locks` locks
//! tables and views in an order that SQL has no statement for. `common_key` tells whether applications have the session's master key.
//! `find_plaintext` finds columns that look like personal data, before a migration, and `remains` plaintext that it left in files.

mod call_cache;
mod common_key;
mod compare;
mod conversion;
mod find_plaintext;
mod keep_in_step;
mod locks;
mod plaintext;
mod remains;
