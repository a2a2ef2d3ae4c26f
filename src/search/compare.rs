//! The one comparison that operators, hashes and indexes are made of: two values are equal where keyset and plaintext are.

use crate::datatype::datum::{Stored, Text};
use crate::datatype::encoding;
use crate::error::Error;
use crate::keyring::search;
use crate::privilege;
use prism_envelope::SearchTag;

/// Whether two values are equal. Opens only what has no search tag, or one of an earlier index key.
#[inline]
pub fn are_equal(left: &Stored<'_>, right: &Stored<'_>) -> Result<bool, Error> {
    let known = match (left.search_tag(), right.search_tag()) {
        (Some(left), Some(right)) => Some((left, right)),
        // The constant of a query has no tag.
        (Some(tag), None) => search::known_tag(right.value().bytes())?.map(|known| (tag, known)),
        (None, Some(tag)) => search::known_tag(left.value().bytes())?.map(|known| (known, tag)),
        (None, None) => None,
    };
    match known {
        Some((left, right)) if are_comparable(left, right) => Ok(left == right),
        _ => are_equal_otherwise(left, right),
    }
}

/// Whether two tags tell if their values are equal. Those of one generation do: they were made with one key, or with those
/// of two keysets, which never give equal tags.
fn are_comparable(one: SearchTag, other: SearchTag) -> bool {
    one.generation() == other.generation()
}

#[inline(never)]
fn are_equal_otherwise(left: &Stored<'_>, right: &Stored<'_>) -> Result<bool, Error> {
    if search::are_of_different_keysets(left.key_version()?, right.key_version()?)? {
        return Ok(false);
    }
    if is_copy(left, right) {
        return Ok(true);
    }
    let (left, right) = last_tags(left, right)?;
    Ok(left == right)
}

/// The tags of two values under the last index keys of their keysets.
///
/// # Errors
/// [`Error::IndexKeyUnknown`] for tags of two generations, where it is not known which is the last.
pub fn last_tags(left: &Stored<'_>, right: &Stored<'_>) -> Result<(SearchTag, SearchTag), Error> {
    let tags = (last_tag(left)?, last_tag(right)?);
    if tags.0.generation() != tags.1.generation() && !privilege::is_logical_worker() {
        for value in [left, right] {
            let version = value.key_version()?;
            if !search::is_index_key_known(version)? {
                return Err(Error::IndexKeyUnknown(version));
            }
        }
    }
    Ok(tags)
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
#[inline]
pub fn is_text(value: &Stored<'_>, text: Text<'_>) -> Result<bool, Error> {
    let wanted = tag_of_text(text)?;
    match value.search_tag() {
        Some(tag) if are_comparable(tag, wanted) => Ok(tag == wanted),
        _ => Ok(search::is_of_session_keyset(value.key_version()?)? && last_tag(value)? == wanted),
    }
}

/// The tag of a value under the last index key of its keyset: the one that it carries, or the one that it would.
#[inline]
pub fn last_tag(value: &Stored<'_>) -> Result<SearchTag, Error> {
    if let Some(tag) = value.search_tag()
        && let Some(tag) = search::carried_tag(value.key_version()?, tag)?
    {
        return Ok(tag);
    }
    let value = value.value();
    match search::known_tag(value.bytes())? {
        Some(tag) => Ok(tag),
        None => search::make_tag(value.bytes(), &value.envelope()?),
    }
}

/// The tag of a text: that of the value that it would be in the session's keyset.
#[inline]
pub fn tag_of_text(text: Text<'_>) -> Result<SearchTag, Error> {
    encoding::with_utf8(text.0.bytes(), search::tag_of_text)
}
