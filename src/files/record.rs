//! Exports and imports in the audit log, and in the server log, which a rollback does not take back.

use crate::error::Error;
use crate::identity::AsOwner;
use crate::privilege::function_oid;
use pgrx::prelude::*;

/// Records it. `event` is the function that was called. In a read-only transaction, as on a standby, it is in the server log only.
pub fn record(event: &str, detail: &str, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    ereport!(
        PgLogLevel::LOG_SERVER_ONLY,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("{event}: {detail}")
    );
    // SAFETY: reads a variable of this session.
    if unsafe { pg_sys::XactReadOnly } {
        return Ok(());
    }
    let _owner = AsOwner::of(function_oid(fcinfo))?;
    let call = "SELECT prism_crypt._audit($1, NULL, NULL, NULL, $2)";
    Spi::run_with_args(call, &[event.into(), detail.into()])
        .map_err(|_| Error::Internal("the audit log can't be written"))
}

/// `schema.table`, as in SQL. What is gone has its number for a name.
pub fn relation_name(relation: pg_sys::Oid) -> String {
    // SAFETY: catalog look-ups, which give null for what is not there.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if name.is_null() || schema.is_null() {
            return relation.to_u32().to_string();
        }
        let qualified = pg_sys::quote_qualified_identifier(schema, name);
        std::ffi::CStr::from_ptr(qualified).to_string_lossy().into_owned()
    }
}
