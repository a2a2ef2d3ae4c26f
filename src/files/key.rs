//! Where the key of a file comes from.

use crate::datum::Text;
use crate::error::Error;
use crate::keyring;
use crate::settings;
use prism_envelope::file::KeySource;
use prism_envelope::{KeyBytes, KeyError};

/// A key for a new file, and what its header says of it. Without a given one it is a fresh one, which the first master key wraps.
pub fn for_new_file(given: Option<Text<'_>>) -> Result<(KeyBytes, KeySource), Error> {
    note(given);
    match given {
        Some(text) => Ok((parse(text)?, KeySource::Given {})),
        None => {
            let key = KeyBytes::generate().map_err(Error::from)?;
            let (wrapped, fingerprint) = keyring::wrap_file_key(&key)?;
            Ok((key, KeySource::wrapped(fingerprint, &wrapped)))
        }
    }
}

/// What results and the audit log call the source of a key.
pub fn name_of_source(source: &KeySource) -> &'static str {
    match source {
        KeySource::Given {} => "given",
        KeySource::Wrapped { .. } => "master",
    }
}

/// The key of a file that has this in its header; version 1 has none.
pub fn of_file(given: Option<Text<'_>>, source: Option<&KeySource>) -> Result<KeyBytes, Error> {
    note(given);
    match (given, source) {
        (Some(text), None | Some(KeySource::Given {})) => parse(text),
        (None, None | Some(KeySource::Given {})) => Err(Error::FileKeyNeeded),
        (Some(_), Some(KeySource::Wrapped { .. })) => Err(Error::FileKeyNotWanted),
        (None, Some(source @ KeySource::Wrapped { master_fingerprint, .. })) => {
            let wrapped = source.wrapped_bytes().ok_or(Error::FileHeader)?;
            keyring::unwrap_file_key(master_fingerprint, &wrapped)
        }
    }
}

/// So that what is logged from now on does not show it, also if it is refused.
fn note(given: Option<Text<'_>>) {
    if let Some(text) = given {
        settings::note_key(text.0.bytes());
    }
}

fn parse(text: Text<'_>) -> Result<KeyBytes, Error> {
    let text = std::str::from_utf8(text.0.bytes()).map_err(|_| KeyError::Encoding);
    text.and_then(KeyBytes::parse).map_err(|error| Error::FileKey { error })
}
