//! The type `encrypted_text`: its datum, input and output, type modifiers, casts and statistics.
//!
//! A datum is a varlena whose payload is one envelope. `prism_envelope` knows the bytes.

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
