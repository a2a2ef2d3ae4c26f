//! The byte format of prism_crypt: AES-256-GCM envelopes that name the key version that sealed them.
//!
//! This crate knows nothing of PostgreSQL. Anything that has the data key (a client, a migration tool, an
//! auditor's script) can open values with it. The format itself is written down in `docs/format.md`.
//!
//! * [`Envelope`] and [`Attributes`]: the header, read and written.
//! * [`DataKey`]: seal, open and reseal.
//! * [`MasterKey`]: wrap and unwrap data keys, fingerprint.
//! * [`IndexKey`]: search tags and blind indexes.
//! * [`armor`]: the text form `prism:v<key version>:<base64>`.
//! * [`KeyBytes`]: parse and generate 256-bit keys.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod armor;
mod cipher;
mod class;
mod context;
mod header;
mod index;
mod key;
mod nonce;
mod stack;
mod wrap;

#[cfg(test)]
mod vectors;

pub use cipher::{DataKey, OpenError, SealError};
pub use class::FieldClass;
pub use context::ContextHash;
pub use header::{
    Attributes, Content, Envelope, FORMAT_V1, FormatError, KeyVersion, MAX_OVERHEAD, MIN_OVERHEAD, NONCE_LEN,
    SearchTag, TAG_LEN,
};
pub use index::{DerivationError, IndexKey, MAX_BLIND_INDEX_BITS};
pub use key::{KEY_LEN, KeyBytes, KeyError, parse_keys};
pub use nonce::{NonceOwner, NoncePool, RandomnessError};
pub use wrap::{Fingerprint, KeyIdentity, MasterKey, UnwrapError, WRAPPED_LEN};
