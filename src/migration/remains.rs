//! Searches the files of a table for plaintext that is left in them: in dead rows, in free space, in indexes.

use super::locks::require_owner;
use crate::datatype::reading::open_without_context;
use crate::error::{Error, SqlResult};
use crate::privilege::{may_learn, require_execute};
use memchr::memmem::Finder;
use pgrx::prelude::*;
use prism_envelope::Envelope;

/// Shorter texts are found by chance, or as parts of others.
const SHORTEST: usize = 8;

/// `prism_crypt._find_remains(relation oid, sample bytea[], OUT sampled integer, OUT found integer)`: how many of these envelopes have a
/// plaintext of at least eight bytes, and how many of those plaintexts are in the pages of a table, an index or a TOAST table. What
/// is compressed is not found. It takes the right to decrypt or to search, and the relation: otherwise it would tell of any envelope
/// whether it holds one of many texts, and of any table what is in it.
#[pg_extern(sql = false)]
fn _find_remains(
    relation: pg_sys::Oid,
    sample: pgrx::datum::Array<&[u8]>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<TableIterator<'static, (name!(sampled, i32), name!(found, i32))>> {
    require_execute(fcinfo)?;
    if !may_learn() {
        return Err(Error::DecryptDenied.into());
    }
    // SAFETY: inside a transaction; nothing is held that must be dropped.
    unsafe { require_owner(relation) };
    let mut wanted = Vec::new();
    for bytes in sample.iter().flatten() {
        let envelope = Envelope::parse(bytes).map_err(Error::NotAnEnvelope)?;
        match open_without_context(envelope) {
            Ok(text) if text.bytes().len() >= SHORTEST => wanted.push(Finder::new(text.bytes()).into_owned()),
            Ok(_) => {}
            Err(error) if error.is_about_the_value() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let sampled = wanted.len();
    // SAFETY: inside a transaction.
    unsafe { each_page(relation, |page| wanted.retain(|text| text.find(page).is_none())) }
    let found = sampled - wanted.len();
    Ok(TableIterator::once((
        i32::try_from(sampled).unwrap_or(i32::MAX),
        i32::try_from(found).unwrap_or(i32::MAX),
    )))
}

/// Passes the bytes of every page of a relation to `see`.
///
/// # Safety
/// Inside a transaction.
unsafe fn each_page(relation: pg_sys::Oid, mut see: impl FnMut(&[u8])) {
    let lock = pg_sys::AccessShareLock.cast_signed();
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: the relation is open and has these blocks; each buffer is pinned and locked while its page is read. After an error
    // PostgreSQL releases all of it.
    unsafe {
        let opened = pg_sys::try_relation_open(relation, lock);
        if opened.is_null() {
            return;
        }
        let strategy = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD);
        for block in 0..pg_sys::RelationGetNumberOfBlocksInFork(opened, fork) {
            pgrx::check_for_interrupts!();
            let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(opened, fork, block, mode, strategy);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE.cast_signed());
            see(std::slice::from_raw_parts(pg_sys::BufferGetPage(buffer).cast(), pg_sys::BLCKSZ as usize));
            pg_sys::UnlockReleaseBuffer(buffer);
        }
        pg_sys::FreeAccessStrategy(strategy);
        pg_sys::relation_close(opened, lock);
    }
}
