//! Finds the statements of the client, and wraps the encrypted columns of their results.

use super::columns::{conversion, result_columns};
use super::saved;
use crate::datatype::is_plaintext_for;
use crate::datatype::nested::{TextLike, text_like};
use crate::datatype::portal::running_statement;
use crate::nodes::{length, nth};
use crate::settings;
use pgrx::prelude::*;
use std::ffi::c_char;
use std::ptr::null_mut;

/// Wraps the encrypted columns of a client's statement that was just analysed, if they are to be announced as text.
///
/// # Safety
/// The query was just analysed, from the text `source`, and may be changed.
#[pg_guard]
pub unsafe extern "C-unwind" fn announce(query: *mut pg_sys::Query, source: *const c_char) {
    // SAFETY: as promised by the caller; the tags of nodes say what they are.
    unsafe {
        let query = returning_query(query);
        let columns = if query.is_null() { null_mut() } else { result_columns(query) };
        let columns =
            (0..length(columns)).map(|index| &mut *nth(columns, index).cast::<pg_sys::TargetEntry>());
        let mut saved = None;
        for column in columns {
            let Some(like) = encrypted(column) else { continue };
            let saved = *saved.get_or_insert_with(|| saved::statement_of(source));
            let is_text = if saved.is_null() {
                settings::results_may_be_text() && is_of_client(source) && is_plaintext_for(like.value_type())
            } else {
                saved::is_text(saved, column.resno)
            };
            if is_text {
                column.expr = conversion(column.expr, like);
            }
        }
    }
}

/// What a result column is, if its values stand for texts.
///
/// # Safety
/// A column of an analysed query.
unsafe fn encrypted(column: &pg_sys::TargetEntry) -> Option<TextLike> {
    // SAFETY: as promised by the caller.
    let type_oid = unsafe { pg_sys::exprType(column.expr.cast()) };
    // Most types are PostgreSQL's own.
    let may_be = !column.resjunk && type_oid.to_u32() >= pg_sys::FirstNormalObjectId;
    if may_be { text_like(type_oid) } else { None }
}

/// Whether a text is that of the statement that the client sent, or prepares: PostgreSQL analyses a copy of any other.
///
/// # Safety
/// `source` is null or the source of a statement that is being analysed.
unsafe fn is_of_client(source: *const c_char) -> bool {
    // SAFETY: globals of this session.
    unsafe {
        if source.is_null() || pg_sys::whereToSendOutput != pg_sys::CommandDest::DestRemote {
            return false;
        }
        if pg_sys::ActivePortal.is_null() {
            return source == pg_sys::debug_query_string;
        }
        // Inside a statement that runs, only PREPARE has another one.
        let prepares = |statement| pgrx::is_a(statement, pg_sys::NodeTag::T_PrepareStmt);
        source == (*pg_sys::ActivePortal).sourceText && !running_statement(prepares).is_null()
    }
}

/// The query whose rows go to the client: this one, or that of the cursor that it declares; null if there is none.
///
/// # Safety
/// `query` was just analysed.
unsafe fn returning_query(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: the tags of nodes say what they are.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_UTILITY {
            return query;
        }
        let statement = (*query).utilityStmt;
        if !pgrx::is_a(statement, pg_sys::NodeTag::T_DeclareCursorStmt) {
            return null_mut();
        }
        let cursor = &*statement.cast::<pg_sys::DeclareCursorStmt>();
        // What outlives the transaction is put out at its end, for whoever has the role then.
        let is_kept = cursor.options.cast_unsigned() & pg_sys::CURSOR_OPT_HOLD != 0;
        let is_query = pgrx::is_a(cursor.query, pg_sys::NodeTag::T_Query);
        if is_query && !is_kept { cursor.query.cast() } else { null_mut() }
    }
}
