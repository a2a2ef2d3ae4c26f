//! Exports and imports in the audit log, and in the server log, which a rollback does not take back. Texts are in the server's encoding.

use crate::datum::TextResult;
use crate::error::{Error, log};
use crate::identity::AsOwner;
use crate::privilege::function_oid;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use std::ffi::CStr;

/// Records it. `event` is the function that was called. In a read-only transaction, as on a standby, it is in the server log only.
pub fn record(event: &str, detail: &[&[u8]], fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let detail = detail.concat();
    log(&[event.as_bytes(), b": ", &detail].concat());
    // SAFETY: reads a variable of this session.
    if unsafe { pg_sys::XactReadOnly } {
        return Ok(());
    }
    let _owner = AsOwner::of(function_oid(fcinfo))?;
    let call = "SELECT prism_crypt._audit($1, NULL, NULL, NULL, $2)";
    Spi::run_with_args(call, &[event.into(), TextResult(Varlena::copy_of(&detail)?).into()])
        .map_err(|_| Error::Internal("the audit log can't be written"))
}

/// `schema.table`, as in SQL. What is gone has its number for a name.
pub fn relation_name(relation: pg_sys::Oid) -> Vec<u8> {
    // SAFETY: catalog look-ups, which give null for what is not there.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if name.is_null() || schema.is_null() {
            return relation.to_u32().to_string().into_bytes();
        }
        CStr::from_ptr(pg_sys::quote_qualified_identifier(schema, name)).to_bytes().to_vec()
    }
}
