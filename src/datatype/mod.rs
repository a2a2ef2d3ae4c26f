//! The type `encrypted_text`. A value is a varlena whose payload is one envelope; `prism_envelope` knows the bytes.
//!
//! - In: `text_io` and `binary_io` are given what a client sends. Ciphertext goes to `load`, which asks for the right to; all else
//!   is brought to UTF-8 by `encoding` and sealed for the column, whose class `typmod` reads.
//! - Out: `output` says what a role is shown, `reading` opens a value, `masking` masks it. `dump` knows what is part of a dump, from the
//!   statement that the client sent (`portal`).
//! - `cast` does the same for casts; `conversion` tells those conversions that PostgreSQL makes by input and output functions,
//!   and `unseen_change` those of an ALTER TABLE that began before the library was loaded.
//! - Other types: `nested` finds values inside of values, `types_over` the types that may hold some, and `type_lookup` asks the
//!   catalogs for both.
//! - `analyze` takes statistics of a column, without opening anything.

mod analyze;
mod binary_io;
mod cast;
mod conversion;
mod dump;
pub mod encoding;
mod load;
mod masking;
pub mod nested;
mod output;
mod portal;
pub mod reading;
pub mod text_io;
pub mod type_lookup;
mod types_over;
pub mod typmod;
mod unseen_change;

pub use unseen_change::init;
