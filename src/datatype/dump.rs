//! Dumps are always ciphertext, whatever `prism_crypt.output` is. Otherwise the owner of a database, or whoever may alter a
//! role, could choose what another user's dump holds, and masks could not be restored.

use super::portal::running_statement;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The `application_name` of `pg_dump`, unless it is given another. It is set in the connection request, which overrides the
/// settings of roles and databases.
const NAME: &[u8] = b"pg_dump";

/// Whether the output is part of a dump: the client sent COPY of a table, or the client is `pg_dump`.
pub fn is_running() -> bool {
    is_session_of_pg_dump() || copies_table()
}

fn is_session_of_pg_dump() -> bool {
    // SAFETY: the variable of the setting is null or a terminated string.
    unsafe {
        !pg_sys::application_name.is_null()
            && CStr::from_ptr(pg_sys::application_name).to_bytes().starts_with(NAME)
    }
}

/// COPY of a query does not count: it gives what the query would show.
fn copies_table() -> bool {
    let is_copy_of_table = |statement: *mut pg_sys::Node| {
        // SAFETY: the node's tag gives its type.
        unsafe {
            pgrx::is_a(statement, pg_sys::NodeTag::T_CopyStmt) && {
                let copy = &*statement.cast::<pg_sys::CopyStmt>();
                !copy.is_from && !copy.relation.is_null()
            }
        }
    };
    !running_statement(is_copy_of_table).is_null()
}
