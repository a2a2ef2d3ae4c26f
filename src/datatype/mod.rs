//! The type `encrypted_text`. A value is a varlena whose payload is one envelope; `prism_envelope` defines its bytes.
//!
//! - In: `text_io` and `binary_io` receive what a client sends. Ciphertext goes to `load`, which checks the right to load.
//!   Anything else is converted to UTF-8 by `encoding` and sealed for the column, whose class `typmod` reads.
//! - Out: `output` decides what a role is shown, `reading` decrypts a value, `masking` masks it. `dump` recognises dumps by the
//!   session, or by the statement that the client sent (`portal`), and `plan_output` what EXPLAIN and auto_explain write.
//! - `cast` does the same for casts. `conversion` recognises casts that PostgreSQL makes with input and output functions, and
//!   `unseen_change` those of an ALTER TABLE that began before the library was loaded.
//! - Other types: `nested` finds values inside values, `types_over` the types that can hold some; `type_lookup` reads the
//!   catalogs for both.
//! - `analyze` computes statistics of a column without decrypting anything.

mod analyze;
mod binary_io;
mod cast;
pub mod conversion;
mod dump;
pub mod encoding;
mod load;
mod masking;
pub mod nested;
mod output;
pub mod plan_output;
pub mod portal;
pub mod reading;
pub mod text_io;
pub mod type_lookup;
mod types_over;
pub mod typmod;
mod unseen_change;

pub use cast::without_padding;
pub use load::OpenedInput;
pub use output::{ValueOutput, ValuesShown, is_plaintext_for, opened_of_other_keysets};

/// Called when the library is loaded, perhaps by a statement that is already running.
pub fn init() {
    unseen_change::init();
    plan_output::init();
}
