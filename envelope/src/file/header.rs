//! The header of version 2: in the clear, and authenticated with everything after it.

use super::{FileError, read_exact};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// The longest header in bytes.
pub const MAX_HEADER_LEN: usize = 64 << 10;

/// What can be known of a file without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// How its key is had.
    pub key: KeySource,
    /// What the content is, as a media type: `text/csv`, for example.
    pub content_type: String,
    /// What was done to the content before it was encrypted.
    pub compression: Compression,
}

/// How the key of a file is had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub enum KeySource {
    /// Whoever opens the file gives its key.
    Given {},
    /// A master key wraps it.
    Wrapped {
        /// Of the master key, in hexadecimal digits.
        master_fingerprint: String,
        /// The wrapped key, in base64.
        wrapped: String,
    },
}

impl KeySource {
    /// A key that a master key has wrapped.
    #[must_use]
    pub fn wrapped(master_fingerprint: String, wrapped: &[u8]) -> Self {
        Self::Wrapped { master_fingerprint, wrapped: STANDARD.encode(wrapped) }
    }

    /// The wrapped key; `None` if there is none, or it is not base64.
    #[must_use]
    pub fn wrapped_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Given {} => None,
            Self::Wrapped { wrapped, .. } => STANDARD.decode(wrapped).ok(),
        }
    }
}

/// What was done to the content before it was encrypted. Lengths of compressed content tell something of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Nothing.
    None,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Header {
    /// Reads length and header, and appends them to what was read before.
    pub(super) fn read(from: &mut impl Read, prefix: &mut Vec<u8>) -> Result<Self, FileError> {
        let mut length = [0; 4];
        read_exact(from, &mut length)?;
        let len = usize::try_from(u32::from_be_bytes(length)).map_err(|_| FileError::Header)?;
        if len > MAX_HEADER_LEN {
            return Err(FileError::Header);
        }
        let mut json = vec![0; len];
        read_exact(from, &mut json)?;
        let header = serde_json::from_slice(&json).map_err(|_| FileError::Header)?;
        prefix.extend_from_slice(&length);
        prefix.append(&mut json);
        Ok(header)
    }

    pub(super) fn write(&self, prefix: &mut Vec<u8>) -> Result<(), FileError> {
        let json = serde_json::to_vec(self).map_err(|_| FileError::Header)?;
        let length = u32::try_from(json.len())
            .ok()
            .filter(|_| json.len() <= MAX_HEADER_LEN)
            .ok_or(FileError::Header)?;
        prefix.extend_from_slice(&length.to_be_bytes());
        prefix.extend_from_slice(&json);
        Ok(())
    }
}
