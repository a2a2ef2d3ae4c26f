//! `_import_rows`: the rows of an encrypted file, or of the pieces of one, into a table.

use super::copy_from::{Reading, copy_from, require_insert};
use super::definition::Target;
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
    let wants_empty = mode.0.bytes() == b"empty";
    let target = Target::of(&source.definition, target, mode)?;
    require_insert(target.relation, &target.columns)?;
    if wants_empty {
        require_empty(target.relation)?;
    }
    let length = source.plain_length();
    let reading = Reading::of(source);
    let rows = {
        let _input = OpenedInput::begin(target.opened);
        copy_from(target.relation, &target.columns, length)?
    };
    let bytes = reading.end()?;
    let count = rows.to_string();
    record(event, &[count.as_bytes(), b" rows of ", from, b" to ", &relation_name(target.relation)], fcinfo)?;
    Ok(TableIterator::once((target.relation, rows.cast_signed(), bytes.cast_signed())))
}

/// Nobody else adds rows before it is filled.
fn require_empty(relation: pg_sys::Oid) -> Result<(), Error> {
    // SAFETY: a lock to the end of the transaction, by a role that may insert.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::ShareRowExclusiveLock.cast_signed()) };
    let call = "SELECT prism_crypt._require_empty($1)";
    Spi::run_with_args(call, &[relation.into()]).map_err(|_| Error::Internal("a table can't be read"))
}
