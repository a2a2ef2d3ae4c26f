//! `_import_rows`: the rows of an encrypted file, or of the pieces of one, into a table.

use super::copy_from::{Reading, copy_from, require_insert};
use super::definition::{Fields, in_server_encoding, target_of};
use super::record::{record, relation_name};
use super::source::Source;
use crate::datatype::OpenedInput;
use crate::datum::Text;
use crate::error::Error;
use crate::privilege::require_execute;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// `prism_crypt._import_rows(path text, chunks text, key text, target text, mode text, OUT relation oid, OUT rows bigint, OUT bytes bigint)`: appends
/// the rows of a file, or of the pieces of one that a query gives, to a table, as `COPY` would for the current role. `bytes` is the length of the file.
/// One of `path` and `chunks` is null; key and target may be.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it as it is written")]
fn _import_rows(
    path: Option<Text<'_>>,
    chunks: Option<Text<'_>>,
    key: Option<Text<'_>>,
    target: Option<Text<'_>>,
    mode: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<'static, (name!(relation, pg_sys::Oid), name!(rows, i64), name!(bytes, i64))>,
    ErrorReport,
> {
    require_execute(fcinfo)?;
    // SAFETY: raises an error in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"import".as_ptr()) };
    let (event, from): (_, &[u8]) = match &path {
        Some(path) => ("import_encrypted", path.0.bytes()),
        None => ("import_stream", b"a stream"),
    };
    let source = Source::open(path, chunks, key)?;
    let definition = in_server_encoding(&source.definition)?;
    let wants_empty = mode.0.bytes() == b"empty";
    let target = target_of(&definition, target, mode)?;
    lock(target, wants_empty)?;
    let fields = Fields::of(&definition, target)?;
    require_insert(target, &fields.columns)?;
    if wants_empty {
        let call = "SELECT prism_crypt._require_empty($1)";
        Spi::run_with_args(call, &[target.into()]).map_err(|_| Error::Internal("a table can't be read"))?;
    }
    let length = source.plain_length();
    let reading = Reading::of(source);
    let rows = {
        let _input = OpenedInput::begin(fields.opened);
        copy_from(target, &fields.columns, length)?
    };
    let bytes = reading.end()?;
    fields.warn_of_missing_keys()?;
    let count = rows.to_string();
    record(event, &[count.as_bytes(), b" rows of ", from, b" to ", &relation_name(target)], fcinfo)?;
    Ok(TableIterator::once((target, rows.cast_signed(), bytes.cast_signed())))
}

/// To the end of the transaction: nobody changes the table's columns, or, if it has to be empty, adds rows before it is filled. `COPY` takes the
/// weaker lock of any table, too; the other one is for roles that may insert something.
fn lock(relation: pg_sys::Oid, wants_empty: bool) -> Result<(), Error> {
    // SAFETY: catalog look-ups, and a lock.
    unsafe {
        let mut mode = pg_sys::RowExclusiveLock;
        if wants_empty {
            let (role, insert) = (pg_sys::GetUserId(), pg_sys::AclMode::from(pg_sys::ACL_INSERT));
            let is_ok = |result| result == pg_sys::AclResult::ACLCHECK_OK;
            let any = pg_sys::AclMaskHow::ACLMASK_ANY;
            if !is_ok(pg_sys::pg_class_aclcheck(relation, role, insert))
                && !is_ok(pg_sys::pg_attribute_aclcheck_all(relation, role, insert, any))
            {
                return Err(Error::ImportDenied);
            }
            mode = pg_sys::ShareRowExclusiveLock;
        }
        pg_sys::LockRelationOid(relation, mode.cast_signed());
    }
    Ok(())
}
