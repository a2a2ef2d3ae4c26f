//! `prism_crypt.data_key_usage`: how many values each data key may have sealed.
//!
//! A row is changed in place, in its buffer, with a WAL record, and outside of transactions: what a transaction sealed
//! stays sealed if it is rolled back. This needs no transaction id and no privilege on the table, and works in
//! read-only transactions and in parallel workers. Neither an UPDATE nor `nextval()` would.

use crate::error::Error;
use pgrx::itemptr::item_pointer_get_both;
use pgrx::pg_sys;
use prism_envelope::KeyVersion;
use std::collections::BTreeMap;

/// Where in the table a row was last seen.
pub type Place = pg_sys::ItemPointerData;

/// A count before and after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub before: u64,
    pub after: u64,
}

/// A row. Both columns have a fixed width and are not null, so they are always `VERSION_AT` and `COUNT_AT` bytes after
/// the tuple's header, and the row ends at `ROW_LEN`.
struct Row {
    version: i32,
    count: i64,
}

const VERSION_AT: usize = 0;
/// `bigint` is aligned to 8 bytes.
const COUNT_AT: usize = 8;
const ROW_LEN: usize = 16;

/// How many times a row is looked for. Only an UPDATE, which nobody should run, moves one meanwhile.
const ATTEMPTS: usize = 4;

/// Sets the count of a version to the result of `next`, and remembers the place of its row in `place`. `None` if there
/// is no row to count in. `next` runs while the page is locked: it must only compute, and not fail.
pub fn change(
    table: pg_sys::Oid,
    version: KeyVersion,
    place: &mut Option<Place>,
    next: impl Fn(u64) -> u64,
) -> Result<Option<Change>, Error> {
    let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: the relation stays open while it is used, and the lock keeps VACUUM FULL, CLUSTER and TRUNCATE out. After
    // an error PostgreSQL closes and unlocks it at the end of the transaction.
    unsafe {
        let relation = pg_sys::try_table_open(table, lock);
        if relation.is_null() {
            return Ok(None);
        }
        let mut changed = None;
        if is_as_installed(relation) {
            for _ in 0..ATTEMPTS {
                let Some(at) = place.take().or_else(|| find(relation, version)) else { break };
                changed = change_at(relation, at, version, &next);
                if changed.is_some() {
                    *place = Some(at);
                    break;
                }
            }
        }
        pg_sys::table_close(relation, lock);
        Ok(changed)
    }
}

/// All counts.
pub fn read(table: pg_sys::Oid) -> Result<BTreeMap<u32, u64>, Error> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut counts = BTreeMap::new();
    // SAFETY: the relation stays open while it is used.
    unsafe {
        let relation = pg_sys::try_table_open(table, lock);
        if relation.is_null() {
            return Ok(counts);
        }
        if is_as_installed(relation) {
            scan(relation, |row, _| {
                counts.insert(row.version.cast_unsigned(), count_of(&row));
                false
            });
        }
        pg_sys::table_close(relation, lock);
    }
    Ok(counts)
}

fn count_of(row: &Row) -> u64 {
    u64::try_from(row.count).unwrap_or(0)
}

/// # Safety
/// `relation` is open.
unsafe fn is_as_installed(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open relation has its `pg_class` row; the rest are catalog look-ups.
    unsafe {
        let table = (*relation).rd_id;
        (*(*relation).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID
            && pg_sys::get_atttype(table, 1) == pg_sys::INT4OID
            && pg_sys::get_atttype(table, 2) == pg_sys::INT8OID
    }
}

/// # Safety
/// `relation` is open and as installed.
unsafe fn find(relation: pg_sys::Relation, version: KeyVersion) -> Option<Place> {
    let mut found = None;
    // SAFETY: as promised by the caller.
    unsafe {
        scan(relation, |row, place| {
            let is_it = row.version.cast_unsigned() == version.get();
            if is_it {
                found = Some(place);
            }
            is_it
        });
    }
    found
}

/// Passes each row of a fresh snapshot, with its place, to `until`, which returns true to stop.
///
/// # Safety
/// `relation` is open and as installed.
unsafe fn scan(relation: pg_sys::Relation, mut until: impl FnMut(Row, Place) -> bool) {
    // SAFETY: the usual catalog scan; each tuple is used before the next is fetched.
    unsafe {
        let (no_snapshot, no_keys) = (std::ptr::null_mut(), std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, no_snapshot, 0, no_keys);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() || row(tuple).is_some_and(|row| until(row, (*tuple).t_self)) {
                break;
            }
        }
        pg_sys::systable_endscan(scan);
    }
}

/// # Safety
/// `tuple` is a row of the table, whose columns are as installed.
unsafe fn row(tuple: pg_sys::HeapTuple) -> Option<Row> {
    // SAFETY: the tuple is as long as `t_len` says, and has both columns if it has no nulls and is long enough.
    unsafe {
        let header = (*tuple).t_data;
        let data = usize::from((*header).t_hoff);
        let has_nulls = u32::from((*header).t_infomask) & pg_sys::HEAP_HASNULL != 0;
        if has_nulls || ((*tuple).t_len as usize) < data + ROW_LEN {
            return None;
        }
        let data = header.cast::<u8>().add(data);
        Some(Row {
            version: data.add(VERSION_AT).cast::<i32>().read_unaligned(),
            count: data.add(COUNT_AT).cast::<i64>().read_unaligned(),
        })
    }
}

/// Changes the count at a place, if the current row of the version is there.
///
/// # Safety
/// `relation` is open, as installed, and locked against commands that move all of its rows.
unsafe fn change_at(
    relation: pg_sys::Relation,
    place: Place,
    version: KeyVersion,
    next: impl Fn(u64) -> u64,
) -> Option<Change> {
    let (block, offset) = item_pointer_get_both(place);
    // SAFETY: the block exists. Its buffer is pinned, and locked exclusively from the first read to the last write, so
    // nobody else changes the page or sets hint bits meanwhile. Memory is allocated before that.
    unsafe {
        if block >= pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) {
            return None;
        }
        let record = pg_sys::GenericXLogStart(relation);
        let buffer = pg_sys::ReadBuffer(relation, block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        let found = current_row(relation, buffer, offset)
            .filter(|(row, _)| row.version.cast_unsigned() == version.get());
        let change = found.map(|(row, at)| {
            let before = count_of(&row);
            (Change { before, after: next(before).min(i64::MAX.cast_unsigned()) }, at)
        });
        match change {
            Some((change, at)) if change.before != change.after => {
                let image = pg_sys::GenericXLogRegisterBuffer(record, buffer, 0).cast::<u8>();
                image.add(at + COUNT_AT).cast::<i64>().write_unaligned(change.after.cast_signed());
                let lsn = pg_sys::GenericXLogFinish(record);
                pg_sys::UnlockReleaseBuffer(buffer);
                // A transaction without an id, or one that aborts, doesn't flush WAL. 0: the relation is not logged.
                if lsn != 0 {
                    pg_sys::XLogSetAsyncXactLSN(lsn);
                }
            }
            _ => {
                pg_sys::GenericXLogAbort(record);
                pg_sys::UnlockReleaseBuffer(buffer);
            }
        }
        change.map(|(change, _)| change)
    }
}

/// The row at a line pointer, and where in the page its columns begin (bytes). `None` if no current row is there: the
/// place may be free by now, or hold an older state of a row.
///
/// # Safety
/// `buffer` is a page of the relation, and locked exclusively.
unsafe fn current_row(
    relation: pg_sys::Relation,
    buffer: pg_sys::Buffer,
    offset: pg_sys::OffsetNumber,
) -> Option<(Row, usize)> {
    // SAFETY: the offset is checked against the page's last one, and a normal line pointer has a tuple.
    unsafe {
        let page = pg_sys::BufferGetPage(buffer);
        if offset == 0 || offset > pg_sys::PageGetMaxOffsetNumber(page) {
            return None;
        }
        let item = pg_sys::PageGetItemId(page, offset);
        if (*item).lp_flags() != pg_sys::LP_NORMAL {
            return None;
        }
        let at = (*item).lp_off() as usize;
        let mut place = Place::default();
        pgrx::itemptr::item_pointer_set_all(&mut place, pg_sys::BufferGetBlockNumber(buffer), offset);
        let mut tuple = pg_sys::HeapTupleData {
            t_len: (*item).lp_len(),
            t_self: place,
            t_tableOid: (*relation).rd_id,
            t_data: page.cast::<u8>().add(at).cast(),
        };
        // The highest command id: what this transaction did itself counts as done.
        let state = pg_sys::HeapTupleSatisfiesUpdate(&mut tuple, pg_sys::CommandId::MAX, buffer);
        use pg_sys::TM_Result::{TM_BeingModified, TM_Ok};
        if state != TM_Ok && state != TM_BeingModified {
            return None;
        }
        let columns = at + usize::from((*tuple.t_data).t_hoff);
        Some((row(&mut tuple)?, columns))
    }
}
