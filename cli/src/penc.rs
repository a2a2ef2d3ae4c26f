//! Opens encrypted files (docs/file-format.md) with the keys that there are.

use crate::error::{Error, Result};
use crate::keys::Keys;
use prism_envelope::file::{Compression, FileError, Header, KeySource, Opener};
use prism_envelope::{KeyBytes, KeyIdentity};
use std::io::{BufReader, Read};

/// The media type of a table.
pub const TABLE: &str = "application/vnd.prism-crypt.table";

/// The content as it was before it was compressed and encrypted, and the header, which is authentic: version 1 has none.
///
/// # Errors
/// [`Error::Penc`], [`Error::KeyMismatch`], [`Error::SeveralKeys`].
pub fn open(from: impl Read + 'static, keys: &Keys) -> Result<(Option<Header>, Box<dyn Read>)> {
    let opener = Opener::new(BufReader::with_capacity(1 << 18, from))?;
    let header = opener.header().cloned();
    let content = match header.as_ref().map(|header| &header.key) {
        Some(source @ KeySource::Wrapped { master_fingerprint, .. }) => {
            let wrapped = source.wrapped_bytes().ok_or(FileError::Header)?;
            opener.content(&unwrap(master_fingerprint, &wrapped, keys)?)?
        }
        None | Some(KeySource::Given {}) => opener.content(keys.single()?)?,
    };
    let content: Box<dyn Read> = match header.as_ref().map(|header| header.compression) {
        Some(Compression::Zstd) => Box::new(zstd::Decoder::new(content).map_err(Error::content)?),
        _ => Box::new(content),
    };
    Ok((header, content))
}

fn unwrap(fingerprint: &str, wrapped: &[u8], keys: &Keys) -> Result<KeyBytes> {
    let masters = keys.master_keys();
    let master = masters.iter().find(|master| master.fingerprint().to_string() == fingerprint);
    let master = master.ok_or_else(|| Error::KeyMismatch {
        wrapped: "The key of the file".to_owned(),
        expected: fingerprint.chars().filter(char::is_ascii_hexdigit).take(16).collect(),
        loaded: masters.iter().map(|master| master.fingerprint().to_string()).collect(),
    })?;
    master.unwrap(KeyIdentity::File, wrapped).map_err(|_| FileError::Decryption.into())
}
