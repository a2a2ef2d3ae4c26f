//! Copies a sample of a table's rows.
//!
//! Not through SQL, as `crate::sampling` explains. Both relations are locked and checked: the caller must be able to read the source,
//! and own the copy, a plain temporary table. Then `copying` writes rows of the source to the copy.

mod copying;

use crate::error::{Error, SqlResult};
use crate::sampling::{Open, place};
use copying::copy_sample;
use pgrx::datum::Array;
use pgrx::prelude::*;

/// `prism_crypt._copy_sample(source oid, copy oid, columns smallint[], most integer) → bigint`: copies some rows of a
/// table to a temporary table, whose columns are the columns of the source with these numbers, in this order. Returns
/// the number of rows.
#[pg_extern(sql = false)]
fn _copy_sample(
    source: pg_sys::Oid,
    copy: pg_sys::Oid,
    columns: Array<'_, i16>,
    most: i32,
) -> SqlResult<i64> {
    let most = u32::try_from(most).map_err(|_| Error::OutOfRange("most"))?;
    let columns: Vec<i16> = columns.iter().map(Option::unwrap_or_default).collect();
    require_right(source)?;
    let source = Open::new(source, pg_sys::AccessShareLock).ok_or(Error::SampleSource)?;
    // The right may have changed while the lock was waited for.
    require_right(source.oid())?;
    if !(source.is_heap() && (source.is_permanent() || source.is_own_temporary())) {
        return Err(Error::SampleSource.into());
    }
    let copy = Open::new(copy, pg_sys::RowExclusiveLock).ok_or(Error::SampleCopy)?;
    if !(is_own_and_plain(&copy) && is_like(&copy, &source, &columns)) {
        return Err(Error::SampleCopy.into());
    }
    // SAFETY: the requirements on both were checked above.
    let copied = unsafe { copy_sample(&source, &copy, &columns, most)? };
    // SAFETY: makes the rows visible to the next statement, as after an INSERT.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(copied.into())
}

/// Fails unless the caller may read all rows of the source.
fn require_right(source: pg_sys::Oid) -> Result<(), Error> {
    // SAFETY: catalog look-ups inside a transaction. PostgreSQL raises its own error for a table that does not exist.
    let may_read = unsafe {
        let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
        pg_sys::pg_class_aclcheck(source, pg_sys::GetUserId(), select) == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(source, pg_sys::InvalidOid, true).cast_unsigned()
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED
    };
    if may_read { Ok(()) } else { Err(Error::SampleDenied) }
}

/// Whether it belongs to the caller, and has nothing that an `INSERT` would heed but this code does not: constraints,
/// indexes, triggers.
fn is_own_and_plain(copy: &Open) -> bool {
    let form = copy.form();
    // SAFETY: reads a variable of this session.
    let is_own = copy.is_own_temporary() && form.relowner == unsafe { pg_sys::GetUserId() };
    is_own
        && copy.is_heap()
        && !form.relispartition
        && !form.relhasindex
        && !form.relhastriggers
        && !copy.has_constraints()
}

/// Whether the stored values of these columns fit the columns of the copy: the same type and modifier, or the base type
/// of a domain.
fn is_like(copy: &Open, source: &Open, columns: &[i16]) -> bool {
    let (from, to) = (source.descriptor(), copy.descriptor());
    to.len() == columns.len()
        && columns.iter().zip(to.iter()).all(|(number, column)| {
            let original = place(*number).and_then(|place| from.get(place));
            let Some(original) = original.filter(|column| !column.attisdropped) else { return false };
            // SAFETY: a catalog look-up inside a transaction, of the type of a column that is there.
            let base = unsafe { pg_sys::getBaseType(original.atttypid) };
            let modifier = if base == original.atttypid { original.atttypmod } else { -1 };
            !column.attisdropped && (column.atttypid, column.atttypmod) == (base, modifier)
        })
}
