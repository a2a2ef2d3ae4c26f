//! The one comparison that operators, hashes and indexes are made of: two values are equal where keyset and plaintext are.

use crate::datatype::datum::{Stored, Text};
use crate::datatype::encoding;
use crate::error::Error;
use crate::keyring::search::{self, SearchHash};

/// Whether two values are equal. Opens only what has no search tag, or one of an earlier index key.
#[inline]
pub fn are_equal(left: &Stored<'_>, right: &Stored<'_>) -> Result<bool, Error> {
    match (left.search_tag(), right.search_tag()) {
        // Made with one key, or with keys of two keysets: these never give equal tags.
        (Some(left), Some(right)) if left.generation() == right.generation() => Ok(left == right),
        _ => are_equal_otherwise(left, right),
    }
}

#[cold]
fn are_equal_otherwise(left: &Stored<'_>, right: &Stored<'_>) -> Result<bool, Error> {
    if search::are_of_different_keysets(left.key_version()?, right.key_version()?)? {
        return Ok(false);
    }
    Ok(is_copy(left, right) || search_hash(left)? == search_hash(right)?)
}

/// Whether two values are equal as far as their bytes tell. Opens nothing.
pub fn are_known_to_be_equal(left: &Stored<'_>, right: &Stored<'_>) -> bool {
    match (left.search_tag(), right.search_tag()) {
        (Some(left), Some(right)) => left == right,
        _ => is_copy(left, right),
    }
}

/// Whether two values that would have to be opened are the same ciphertext. A subscriber has only these.
fn is_copy(left: &Stored<'_>, right: &Stored<'_>) -> bool {
    left.search_tag().is_none()
        && right.search_tag().is_none()
        && left.len() == right.len()
        && left.front() == right.front()
        && left.value().bytes() == right.value().bytes()
}

/// Whether a value is the text, in the session's keyset.
pub fn is_text(value: &Stored<'_>, text: Text<'_>) -> Result<bool, Error> {
    let wanted = hash_of_text(text)?;
    Ok(search::is_of_session_keyset(value.key_version()?)? && search_hash(value)? == wanted)
}

/// What a value is compared by.
#[inline]
pub fn search_hash(value: &Stored<'_>) -> Result<SearchHash, Error> {
    if let Some(tag) = value.search_tag()
        && let Some(hash) = search::hash_of_tag(value.key_version()?, tag)?
    {
        return Ok(hash);
    }
    let value = value.value();
    search::hash_of_value(value.bytes(), &value.envelope()?)
}

/// What a text is compared by: as the value that it would be in the session's keyset.
pub fn hash_of_text(text: Text<'_>) -> Result<SearchHash, Error> {
    encoding::with_utf8(text.0.bytes(), search::hash_of_text)
}
