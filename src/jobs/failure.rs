//! Raises an error again after a job has recorded it.

use crate::error::{Error, SqlResult, postgres_string};
use crate::sqlstate::sqlstate;
use pgrx::prelude::*;
use std::ffi::{c_char, c_int};

unsafe extern "C-unwind" {
    // pgrx's binding catches the error and raises it again without the names of constraint, table and column.
    fn ThrowErrorData(error: *mut pg_sys::ErrorData);
}

/// `prism_crypt._raise_failure(code, message, detail, hint, context, schema, table, column, datatype, constraint)`, all of
/// type text: raises the error that they describe. Leaves out null and empty fields.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "the fields of an error")]
fn _raise_failure(
    code: Option<&str>,
    message: Option<&str>,
    detail: Option<&str>,
    hint: Option<&str>,
    context: Option<&str>,
    schema_name: Option<&str>,
    table_name: Option<&str>,
    column_name: Option<&str>,
    datatype_name: Option<&str>,
    constraint_name: Option<&str>,
) -> SqlResult<()> {
    let code = code.and_then(|code| code.as_bytes().try_into().ok()).ok_or(Error::OutOfRange("code"))?;
    let mut error = pg_sys::ErrorData {
        elevel: pgrx::PgLogLevel::ERROR as c_int,
        sqlerrcode: sqlstate(code),
        message: copy(message),
        detail: copy(detail),
        hint: copy(hint),
        context: copy(context),
        schema_name: copy(schema_name),
        table_name: copy(table_name),
        column_name: copy(column_name),
        datatype_name: copy(datatype_name),
        constraint_name: copy(constraint_name),
        // SAFETY: PostgreSQL's own memory context for errors.
        assoc_context: unsafe { pg_sys::ErrorContext },
        ..Default::default()
    };
    // SAFETY: PostgreSQL copies the strings. The call does not return, and nothing here needs dropping.
    unsafe { ThrowErrorData(&mut error) }
    Ok(())
}

/// A C string in the current memory context; null if the text is empty.
fn copy(text: Option<&str>) -> *mut c_char {
    text.filter(|text| !text.is_empty()).map_or(std::ptr::null_mut(), postgres_string)
}
