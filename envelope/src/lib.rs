//! The byte format of prism_crypt: AES-256-GCM envelopes that name the key version that sealed them.
//!
//! This crate knows nothing about PostgreSQL. Anything that has the keys (a client, a migration tool, an auditor's script) can
//! read and write values with it. `docs/format.md` specifies every byte; in short, an envelope is
//!
//! ```text
//! format 0x01 | flags | class | key version, 4 | nonce, 12 | [search tag, 17] | [context hash, 16] | ciphertext | tag, 16
//! ```
//!
//! and everything before the ciphertext is authenticated with it.
//!
//! The path of a value, from the master key to the text that a client sees:
//!
//! 1. [`KeyBytes`] (`key`): 256-bit keys, parsed from text or generated.
//! 2. [`MasterKey`] (`wrap`): wraps and unwraps data keys and index keys, each bound to its [`KeyIdentity`].
//! 3. [`IndexKey`] (`index`): makes the [`SearchTag`] of a searchable value; [`ContextHash`] (`context`) binds a value to a
//!    place. Both go, with the [`FieldClass`] (`class`), into the [`Attributes`] of the value.
//! 4. [`DataKey`] (`cipher`): takes a nonce from a [`NoncePool`] (`nonce`), seals, opens, and reseals under another key.
//! 5. [`Envelope`] (`header`): finds the parts of an envelope, and the key version that opens it.
//! 6. [`armor`]: the text form `prism:v<key version>:<base64>`.
//!
//! Keys are wiped when dropped; `stack` says which copies of them are wiped from the stack, and which may stay.
//!
//! ```
//! use prism_envelope::{Attributes, DataKey, Envelope, KeyBytes, KeyIdentity, KeyVersion, MasterKey, NonceOwner, NoncePool};
//!
//! let mut nonces = NoncePool::new();
//! let owner = NonceOwner { process_id: std::process::id(), transaction: 1 };
//! let version = KeyVersion::new(1).ok_or("no version")?;
//!
//! // What lies in the database is the wrapped key.
//! let master = MasterKey::new(&KeyBytes::parse(&"5e".repeat(32))?);
//! let identity = KeyIdentity::Data(version, "default");
//! let wrapped = master.wrap(&mut nonces, owner, identity, &KeyBytes::generate()?)?;
//! let key = DataKey::new(version, &master.unwrap(identity, &wrapped)?);
//!
//! let attributes = Attributes::default();
//! let mut sealed = vec![0; attributes.envelope_len(5)];
//! key.seal_into(&mut nonces, owner, &attributes, b"hello", &mut sealed)?;
//!
//! let envelope = Envelope::parse(&sealed)?;
//! assert_eq!(envelope.key_version(), version);
//! let mut opened = vec![0; envelope.plaintext_len()];
//! key.open_into(&envelope, None, &mut opened)?;
//! assert_eq!(opened, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod armor;
mod cipher;
mod class;
mod context;
pub mod file;
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
