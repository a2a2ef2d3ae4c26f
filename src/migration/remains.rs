//! Searches the files of a table for plaintext that is left in them: in dead rows, in free space, in indexes.

use super::locks::require_owner;
use crate::datatype::reading::open_without_context;
use crate::error::Error;
use crate::nodes;
use crate::privilege::{may_learn, require_execute};
use crate::sampling::Open;
use memchr::memmem::Finder;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::Envelope;

/// Shorter texts are found by chance, or as parts of others.
const SHORTEST: usize = 8;

/// A value that is stored out of line is cut into pieces of this length (`TOAST_MAX_CHUNK_SIZE` of heaptoast.h, with pages of 8 KiB). The
/// first one is looked for.
const PIECE: usize = 1996;

/// `prism_crypt._find_remains(relations oid[], sample bytea[], OUT sampled integer, OUT found integer)`: how many of these envelopes have
/// a plaintext of at least eight bytes, and how many of those plaintexts are in the pages of tables, indexes or TOAST tables. What is
/// compressed is not found. It takes the right to decrypt or to search, and the relations: otherwise it would tell of any envelope
/// whether it holds one of many texts, and of any table what is in it.
#[pg_extern(sql = false)]
fn _find_remains(
    relations: pgrx::datum::Array<pg_sys::Oid>,
    sample: pgrx::datum::Array<&[u8]>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(sampled, i32), name!(found, i32))>, ErrorReport> {
    require_execute(fcinfo)?;
    if !may_learn() {
        return Err(Error::DecryptDenied.into());
    }
    // SAFETY: inside a transaction.
    unsafe {
        for relation in relations.iter().flatten() {
            require_owner(relation);
        }
        let texts = opened(&sample)?;
        let sampled = nodes::length(texts);
        let mut wanted: Vec<Finder> = (0..sampled).map(|at| Finder::new(text_at(texts, at))).collect();
        for relation in relations.iter().flatten() {
            if !wanted.is_empty() {
                each_page(relation, |page| {
                    wanted.retain(|text| text.find(page).is_none());
                    !wanted.is_empty()
                });
            }
        }
        let left = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
        Ok(TableIterator::once((sampled, sampled - left)))
    }
}

/// The plaintexts that are long enough, as varlenas in PostgreSQL's memory: nothing may be held that has to be dropped while values are
/// opened.
///
/// # Safety
/// Inside a transaction.
unsafe fn opened(sample: &pgrx::datum::Array<&[u8]>) -> Result<*mut pg_sys::List, Error> {
    let mut texts = std::ptr::null_mut();
    for bytes in sample.iter().flatten() {
        match open_without_context(Envelope::parse(bytes).map_err(Error::NotAnEnvelope)?) {
            Ok(text) if text.bytes().len() >= SHORTEST => {
                // SAFETY: a list of pointers.
                texts = unsafe { pg_sys::lappend(texts, text.datum().cast_mut_ptr()) };
            }
            Ok(_) => {}
            Err(error) if error.is_about_the_value() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(texts)
}

/// # Safety
/// A list that [`opened`] made and that outlives the answer, and an index of it.
unsafe fn text_at<'a>(texts: *mut pg_sys::List, index: i32) -> &'a [u8] {
    // SAFETY: as promised by the caller: a varlena with a long header.
    let text = unsafe { pgrx::varlena_to_byte_slice(nodes::nth(texts, index).cast()) };
    &text[..text.len().min(PIECE)]
}

/// Passes the bytes of every page of a relation to `see`, until that has seen enough. Nothing if the relation is gone.
///
/// # Safety
/// Inside a transaction.
unsafe fn each_page(relation: pg_sys::Oid, mut see: impl FnMut(&[u8]) -> bool) {
    let Some(opened) = Open::new(relation, pg_sys::AccessShareLock) else { return };
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    let size = pg_sys::BLCKSZ as usize;
    let mut page = vec![0; size];
    // SAFETY: the relation is open and has these blocks; each buffer is pinned and locked while its page is copied, so that writers don't
    // wait for the search. After an error PostgreSQL releases all of it.
    unsafe {
        // The owner may be another one since the lock was waited for.
        require_owner(relation);
        let strategy = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD);
        for block in 0..pg_sys::RelationGetNumberOfBlocksInFork(opened.relation(), fork) {
            pgrx::check_for_interrupts!();
            let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(opened.relation(), fork, block, mode, strategy);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE.cast_signed());
            page.copy_from_slice(std::slice::from_raw_parts(pg_sys::BufferGetPage(buffer).cast(), size));
            pg_sys::UnlockReleaseBuffer(buffer);
            if !see(&page) {
                break;
            }
        }
        pg_sys::FreeAccessStrategy(strategy);
    }
    opened.release();
}
