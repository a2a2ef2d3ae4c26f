//! Finds the statements of the client, and wraps the encrypted columns of their results.

use super::columns::{conversion, is_announced, result_columns};
use super::kept;
use crate::datatype::is_plaintext_for;
use crate::datatype::nested::{TextLike, text_like};
use crate::datatype::portal::running_statement;
use crate::error::Error;
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
        if !is_of_client(source) {
            return;
        }
        let before = kept::announced_before(source);
        if !before.unwrap_or_else(settings::results_may_be_text) {
            return;
        }
        let query = returning_query(query);
        let columns = if query.is_null() { null_mut() } else { result_columns(query) };
        for column in
            (0..length(columns)).map(|index| &mut *nth(columns, index).cast::<pg_sys::TargetEntry>())
        {
            if let Some(like) = encrypted(column)
                && before.unwrap_or_else(|| is_plaintext_for(like.value_type()))
            {
                column.expr = conversion(column.expr, like);
            }
        }
    }
}

/// Keeps in mind how a prepared statement was announced, if it has a result that may be announced in more than one way. Not guarded, as most
/// statements are none.
///
/// # Safety
/// A query that is about to be planned, with the conversions that were taken off it, and the text that it was analysed from.
#[inline]
pub unsafe fn keep(query: *mut pg_sys::Query, announced: *mut pg_sys::List, source: *const c_char) {
    // SAFETY: as promised by the caller.
    unsafe {
        if is_of_client(source) && !kept::is_analysed_just_now(source) {
            keep_prepared(query, announced, source);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn keep_prepared(
    query: *mut pg_sys::Query,
    announced: *mut pg_sys::List,
    source: *const c_char,
) {
    // SAFETY: `keep` passes what it got.
    unsafe {
        if !announced.is_null() {
            return kept::keep(source, true);
        }
        // What rules add was not announced.
        let columns = if (*query).querySource == pg_sys::QuerySource::QSRC_ORIGINAL {
            result_columns(query)
        } else {
            null_mut()
        };
        let mut columns =
            (0..length(columns)).map(|index| &*nth(columns, index).cast::<pg_sys::TargetEntry>());
        if columns.any(|column| encrypted(column).is_some()) {
            kept::keep(source, false);
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

/// Whether a text is that of the statement that the client sent, or prepared by one and executes now: PostgreSQL analyses a copy of any other.
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
        // Inside a statement that runs, only PREPARE and EXECUTE have another one.
        let prepares = |statement| pgrx::is_a(statement, pg_sys::NodeTag::T_PrepareStmt);
        if source == (*pg_sys::ActivePortal).sourceText && !running_statement(prepares).is_null() {
            return true;
        }
        let executed = running_statement(|statement| !executed_by(statement).is_null());
        let prepared = if executed.is_null() { null_mut() } else { prepared_by(executed_by(executed)) };
        !prepared.is_null() && source == (*(*prepared).plansource).query_string
    }
}

/// The EXECUTE in a statement that sends what it gives, or explains it; null if there is none.
///
/// # Safety
/// `statement` is a utility statement.
unsafe fn executed_by(statement: *mut pg_sys::Node) -> *mut pg_sys::ExecuteStmt {
    // SAFETY: the tags of nodes say what they are.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_ExecuteStmt => statement.cast(),
            pg_sys::NodeTag::T_ExplainStmt => inner_execute((*statement.cast::<pg_sys::ExplainStmt>()).query),
            _ => null_mut(),
        }
    }
}

/// # Safety
/// `query` is null or a query that was analysed.
unsafe fn inner_execute(query: *mut pg_sys::Node) -> *mut pg_sys::ExecuteStmt {
    // SAFETY: the tags of nodes say what they are; `is_a` takes null.
    unsafe {
        if query.is_null() || !pgrx::is_a(query, pg_sys::NodeTag::T_Query) {
            return null_mut();
        }
        let statement = (*query.cast::<pg_sys::Query>()).utilityStmt;
        let executes = !statement.is_null() && pgrx::is_a(statement, pg_sys::NodeTag::T_ExecuteStmt);
        if executes { statement.cast() } else { null_mut() }
    }
}

/// The prepared statement that is executed; null if there is none of that name.
///
/// # Safety
/// `execute` is a statement from the parser.
unsafe fn prepared_by(execute: *mut pg_sys::ExecuteStmt) -> *mut pg_sys::PreparedStatement {
    // SAFETY: as promised by the caller: it has a name.
    unsafe { pg_sys::FetchPreparedStatement((*execute).name, false) }
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
        let inner = (*statement.cast::<pg_sys::DeclareCursorStmt>()).query;
        if pgrx::is_a(inner, pg_sys::NodeTag::T_Query) { inner.cast() } else { null_mut() }
    }
}

/// Refuses CREATE TABLE AS EXECUTE of a statement whose encrypted columns are announced as text: the table would hold plaintext.
///
/// # Safety
/// `statement` is null or a utility statement.
pub unsafe fn refuse_table_of(statement: *mut pg_sys::Node) {
    // SAFETY: as promised by the caller; the tags of nodes say what they are.
    unsafe {
        if statement.is_null() || !pgrx::is_a(statement, pg_sys::NodeTag::T_CreateTableAsStmt) {
            return;
        }
        let execute = inner_execute((*statement.cast::<pg_sys::CreateTableAsStmt>()).query);
        let prepared = if execute.is_null() { null_mut() } else { prepared_by(execute) };
        if !prepared.is_null() && is_announced((*(*prepared).plansource).query_list) {
            Error::TableOfText.raise();
        }
    }
}
