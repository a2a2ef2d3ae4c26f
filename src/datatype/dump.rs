//! Dumps: they are always ciphertext, whatever `prism_crypt.output` is. Whoever owns a database, or may alter a role, could
//! otherwise choose what somebody else's dump holds, and masks could not be restored.

use super::portal::running_statement;
use pgrx::pg_sys;
use std::ffi::CStr;

/// How `pg_dump` names its sessions, unless it is told another name. It does so when it connects, which overrides what is set
/// for roles and databases.
const NAME: &[u8] = b"pg_dump";

/// Whether what is put out is part of a dump: by COPY of a table that the client sent, or in a session of `pg_dump`.
pub fn is_running() -> bool {
    is_session_of_pg_dump() || copies_table()
}

fn is_session_of_pg_dump() -> bool {
    // SAFETY: the setting's variable is null or a terminated string.
    unsafe {
        !pg_sys::application_name.is_null()
            && CStr::from_ptr(pg_sys::application_name).to_bytes().starts_with(NAME)
    }
}

/// Of a query, COPY gives what the query would show.
fn copies_table() -> bool {
    let is_copy_of_table = |statement: *mut pg_sys::Node| {
        // SAFETY: the node's tag says what it is.
        unsafe {
            pgrx::is_a(statement, pg_sys::NodeTag::T_CopyStmt) && {
                let copy = &*statement.cast::<pg_sys::CopyStmt>();
                !copy.is_from && !copy.relation.is_null()
            }
        }
    };
    !running_statement(is_copy_of_table).is_null()
}
