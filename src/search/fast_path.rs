//! The usual cases of `=`, of hashing and of index order: inline values that carry search tags, and constants that were opened
//! before for a role known to have the right. They make up most of a large scan or join, so they skip the frame that pgrx sets
//! up around each call. Everything else goes to the functions that have it.
//!
//! No call here can panic, raises an error itself, or holds anything that must be dropped. The exceptions: when PostgreSQL
//! looks up a function that orders indexes, fetching what it needs may raise an error (`readiness`), and there may be no memory.

use super::compare::are_comparable;
use super::constant_tag::known_tag;
use super::hashing::hash;
use super::index_order::{is_ranking, number};
use super::readiness;
use crate::bare_call::{argument, sql_function};
use crate::keyring::search_tags;
use crate::privilege;
use pgrx::prelude::*;
use prism_envelope::{Envelope, SearchTag};

unsafe extern "C-unwind" {
    // The wrappers that pgrx generates for our own functions.
    fn encrypted_text_eq_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn encrypted_text_ne_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn encrypted_text_hash_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn encrypted_text_cmp_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn encrypted_text_cmp_text_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn text_cmp_encrypted_text_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn text_cmp_text_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}

sql_function!(
    encrypted_text_eq_usual,
    pg_finfo_encrypted_text_eq_usual,
    |fcinfo| equality(fcinfo).map(pg_sys::Datum::from),
    encrypted_text_eq_wrapper
);
sql_function!(
    encrypted_text_ne_usual,
    pg_finfo_encrypted_text_ne_usual,
    |fcinfo| equality(fcinfo).map(|is_equal| pg_sys::Datum::from(!is_equal)),
    encrypted_text_ne_wrapper
);
sql_function!(
    encrypted_text_hash_usual,
    pg_finfo_encrypted_text_hash_usual,
    hashed,
    encrypted_text_hash_wrapper
);

// Functions that order btree indexes.
sql_function!(
    encrypted_text_cmp_usual,
    pg_finfo_encrypted_text_cmp_usual,
    order,
    encrypted_text_cmp_wrapper,
    readiness::looked_up
);
sql_function!(
    encrypted_text_cmp_text_usual,
    pg_finfo_encrypted_text_cmp_text_usual,
    |_: pg_sys::FunctionCallInfo| None,
    encrypted_text_cmp_text_wrapper,
    readiness::looked_up
);
sql_function!(
    text_cmp_encrypted_text_usual,
    pg_finfo_text_cmp_encrypted_text_usual,
    |_: pg_sys::FunctionCallInfo| None,
    text_cmp_encrypted_text_wrapper,
    readiness::looked_up
);
sql_function!(
    text_cmp_text_usual,
    pg_finfo_text_cmp_text_usual,
    |_: pg_sys::FunctionCallInfo| None,
    text_cmp_text_wrapper,
    readiness::looked_up
);

/// # Safety
/// A call with two arguments of type `encrypted_text`.
#[inline(always)]
unsafe fn order(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller; PostgreSQL looked the function up.
    let (left, right) = unsafe {
        if is_ranking(fcinfo) {
            return None;
        }
        (argument(fcinfo, 0)?, argument(fcinfo, 1)?)
    };
    let (left, right) = (last_tag(left)?, last_tag(right)?);
    are_comparable(left, right).then(|| pg_sys::Datum::from(number(&left, &right)))
}

/// The tag that a value carries, if it is known to be under the last index key.
#[inline(always)]
fn last_tag(value: &[u8]) -> Option<SearchTag> {
    let tag = Envelope::peek_search_tag(value)?;
    search_tags::carried_tag_if_read(Envelope::peek_key_version(value).ok()?, tag)
}

/// # Safety
/// A call with two arguments of type `encrypted_text`.
#[inline(always)]
unsafe fn equality(fcinfo: pg_sys::FunctionCallInfo) -> Option<bool> {
    // SAFETY: as promised by the caller.
    let (left, right) = unsafe { (argument(fcinfo, 0)?, argument(fcinfo, 1)?) };
    let (left, right) = match (Envelope::peek_search_tag(left), Envelope::peek_search_tag(right)) {
        (Some(left), Some(right)) => (left, right),
        // A constant in a query has no tag.
        // SAFETY: this is the running call, and nothing here must be dropped.
        (Some(tag), None) if privilege::is_known_to_search() => (tag, unsafe { known_tag(fcinfo, right) }?),
        // SAFETY: likewise.
        (None, Some(tag)) if privilege::is_known_to_search() => (unsafe { known_tag(fcinfo, left) }?, tag),
        _ => return None,
    };
    are_comparable(left, right).then(|| left == right)
}

/// # Safety
/// A call with an argument of type `encrypted_text`.
#[inline(always)]
unsafe fn hashed(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller.
    let value = unsafe { argument(fcinfo, 0)? };
    last_tag(value).map(|tag| pg_sys::Datum::from(hash(&tag)))
}
