//! `_is_expression` and `_type_of`: texts of a definition, parsed, and nothing else done with them.

use crate::datum::Text;
use crate::error::{Error, SqlResult};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// `prism_crypt._is_expression(text) → boolean`: whether a text is one SQL expression. It is not looked up what it names. Raises a syntax error.
#[pg_extern(sql = false)]
fn _is_expression(text: Text<'_>) -> SqlResult<bool> {
    let text = terminated(text)?;
    // SAFETY: a terminated text; what the parser gives is a list of statements, whose kind is looked at before it is read as one.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR);
        if statements.is_null() || (*statements).length != 1 {
            return Ok(false);
        }
        let statement = (*(*statements).elements).ptr_value.cast::<pg_sys::RawStmt>();
        let select = (*statement).stmt.cast::<pg_sys::SelectStmt>();
        if (*select).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Ok(false);
        }
        // "SELECT" with one expression; PL/pgSQL would allow clauses after it.
        let lists = [
            (*select).distinctClause,
            (*select).fromClause,
            (*select).groupClause,
            (*select).windowClause,
            (*select).valuesLists,
            (*select).sortClause,
            (*select).lockingClause,
        ];
        let nodes =
            [(*select).whereClause, (*select).havingClause, (*select).limitOffset, (*select).limitCount];
        if lists.iter().any(|list| !list.is_null())
            || nodes.iter().any(|node| !node.is_null())
            || !(*select).intoClause.is_null()
            || !(*select).withClause.is_null()
            || (*select).op != pg_sys::SetOperation::SETOP_NONE
        {
            return Ok(false);
        }
        let targets = (*select).targetList;
        if targets.is_null() || (*targets).length != 1 {
            return Ok(false);
        }
        let target = (*(*targets).elements).ptr_value.cast::<pg_sys::ResTarget>();
        Ok((*target).name.is_null() && (*target).indirection.is_null() && !is_star((*target).val))
    }
}

/// # Safety
/// A node of a parse tree.
unsafe fn is_star(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised by the caller; the kind is looked at first.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_ColumnRef {
            return node.is_null();
        }
        let fields = (*node.cast::<pg_sys::ColumnRef>()).fields;
        let last = (*(*fields).elements.add(usize::try_from((*fields).length - 1).unwrap_or(0))).ptr_value;
        (*last.cast::<pg_sys::Node>()).type_ == pg_sys::NodeTag::T_A_Star
    }
}

/// `prism_crypt._type_of(text, OUT type oid, OUT modifier integer)`: the type that a text names, as in a definition of a column.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it as it is written")]
fn _type_of(
    text: Text<'_>,
) -> SqlResult<TableIterator<'static, (name!(type_oid, pg_sys::Oid), name!(modifier, i32))>> {
    let text = terminated(text)?;
    let (mut kind, mut modifier) = (pg_sys::InvalidOid, -1);
    // SAFETY: a terminated text; raises an error if it names no type.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        pg_sys::parseTypeString(text.as_ptr(), &raw mut kind, &raw mut modifier, false);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::parseTypeString(text.as_ptr(), &raw mut kind, &raw mut modifier, std::ptr::null_mut());
    }
    Ok(TableIterator::once((kind, modifier)))
}

fn terminated(text: Text<'_>) -> Result<CString, Error> {
    CString::new(text.0.bytes()).map_err(|_| Error::Internal("a text with a zero byte"))
}
