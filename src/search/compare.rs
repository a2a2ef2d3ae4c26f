//! The one comparison behind operators, hashes and indexes: two values are equal if their keysets and plaintexts are.

use crate::datatype::encoding;
use crate::datum::{Stored, Text};
use crate::error::Error;
use crate::keyring::search_tags;
use crate::privilege::{self, require_search};
use pgrx::pg_sys;
use prism_envelope::SearchTag;
use std::ffi::{CStr, c_char};

/// Whether two values are equal. Identical ciphertexts are, for everybody: that reveals no more than they show, and neither do
/// two tags. Opens a value only if it has no search tag, which requires the right to search, or one of an earlier index key.
/// `fcinfo` is the running call.
#[inline]
pub fn are_equal(
    left: &Stored<'_>,
    right: &Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<bool, Error> {
    match (left.search_tag(), right.search_tag()) {
        (Some(left), Some(right)) if are_comparable(left, right) => Ok(left == right),
        _ if is_copy(left, right) => Ok(true),
        _ if is_analyzed(fcinfo) => Ok(false),
        (Some(_), Some(_)) => are_equal_otherwise(left, right),
        _ => match require_search(fcinfo) {
            Ok(()) => are_equal_otherwise(left, right),
            // Replication looks for a copy of a value that another server sealed.
            Err(_) if privilege::is_logical_worker() => Ok(false),
            Err(denied) => Err(denied),
        },
    }
}

/// Whether two tags show if their values are equal. Tags of the same generation do: they were made with one key, or with the
/// keys of two keysets, which never produce equal tags.
#[inline]
pub fn are_comparable(one: SearchTag, other: SearchTag) -> bool {
    one.generation() == other.generation()
}

fn are_equal_otherwise(left: &Stored<'_>, right: &Stored<'_>) -> Result<bool, Error> {
    if search_tags::are_of_different_keysets(left.key_version()?, right.key_version()?)? {
        return Ok(false);
    }
    match last_tags(left, right) {
        // Without the other server's keys, only a copy is known to be equal.
        Err(error) if privilege::is_logical_worker() && error.is_for_want_of_a_key() => Ok(false),
        tags => tags.map(|(left, right)| left == right),
    }
}

/// Whether two values that would have to be opened are the same ciphertext: then they are equal, whatever they hold.
pub fn is_copy(left: &Stored<'_>, right: &Stored<'_>) -> bool {
    left.search_tag().is_none()
        && right.search_tag().is_none()
        && left.len() == right.len()
        && left.front() == right.front()
        && left.value().bytes() == right.value().bytes()
}

/// Memory contexts in which ANALYZE computes the statistics of columns, including those of indexes, and of expressions of
/// extended statistics. User-defined functions that it calls run in a context of the executor, SPI or their language.
const MEMORY_OF_ANALYZE: [&CStr; 3] =
    [c"Analyze Column", c"Analyze Expression", c"BuildRelationExtStatistics"];

/// Whether ANALYZE itself compares arrays or rows that hold values. It must need neither keys nor rights, or autovacuum would
/// fail forever; and nothing that it calls may reveal more than the search tags do. Statements inside functions that it calls
/// are answered like any others, because an exclusion constraint compares in them, too.
pub fn is_analyzed(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: PostgreSQL passes a valid call. `MyBEEntry` is null or this process's own entry. It shows the running command
    // unless track_activities is off, and stays correct when a command fails. There is always a current memory context, and
    // its name is null or a constant.
    unsafe {
        let function = (*fcinfo).flinfo;
        let is_element = !function.is_null() && (*function).fn_expr.is_null();
        let entry = pg_sys::MyBEEntry;
        let analyze = pg_sys::ProgressCommandType::PROGRESS_COMMAND_ANALYZE;
        is_element
            && (pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
                || !entry.is_null() && (*entry).st_progress_command == analyze)
            && is_memory_of_analyze((*pg_sys::CurrentMemoryContext).name)
    }
}

/// # Safety
/// The name is null or terminated.
unsafe fn is_memory_of_analyze(name: *const c_char) -> bool {
    // SAFETY: as promised by the caller.
    !name.is_null() && MEMORY_OF_ANALYZE.contains(&unsafe { CStr::from_ptr(name) })
}

/// The tags of two values under the last index keys of their keysets.
///
/// # Errors
/// [`Error::IndexKeyUnknown`] for tags of two generations, if it is not known which is the last.
pub fn last_tags(left: &Stored<'_>, right: &Stored<'_>) -> Result<(SearchTag, SearchTag), Error> {
    let tags = (last_tag(left)?, last_tag(right)?);
    if tags.0.generation() != tags.1.generation() && !privilege::is_logical_worker() {
        for value in [left, right] {
            let version = value.key_version()?;
            if !search_tags::is_index_key_known(version)? {
                return Err(Error::IndexKeyUnknown(version));
            }
        }
    }
    Ok(tags)
}

/// Whether a value equals the text, in the session's keyset.
#[inline]
pub fn is_text(value: &Stored<'_>, text: Text<'_>) -> Result<bool, Error> {
    has_tag(value, tag_of_text(text)?, &mut None)
}

/// Whether a value has this tag, made of a text in the session's keyset. `own` keeps the tag of a value that has to be opened, for the next
/// text; the one inside is `None` for a value of another keyset.
#[inline]
pub fn has_tag(
    value: &Stored<'_>,
    wanted: SearchTag,
    own: &mut Option<Option<SearchTag>>,
) -> Result<bool, Error> {
    match value.search_tag() {
        Some(tag) if are_comparable(tag, wanted) => Ok(tag == wanted),
        _ => {
            let own = match *own {
                Some(own) => own,
                None => *own.insert(if search_tags::is_of_session_keyset(value.key_version()?)? {
                    Some(last_tag(value)?)
                } else {
                    None
                }),
            };
            Ok(own == Some(wanted))
        }
    }
}

/// The tag of a value under the last index key of its keyset: the one it carries, or the one it would carry.
#[inline]
pub fn last_tag(value: &Stored<'_>) -> Result<SearchTag, Error> {
    if let Some(tag) = value.search_tag()
        && let Some(tag) = search_tags::carried_tag(value.key_version()?, tag)?
    {
        return Ok(tag);
    }
    let value = value.value();
    match search_tags::known_tag(value.bytes())? {
        Some(tag) => Ok(tag),
        None => search_tags::make_tag(value.bytes(), &value.envelope()?),
    }
}

/// The tag of a text: the one its encrypted value would have in the session's keyset.
#[inline]
pub fn tag_of_text(text: Text<'_>) -> Result<SearchTag, Error> {
    encoding::with_utf8(text.0.bytes(), search_tags::tag_of_text)
}
