//! The result columns of a query, and the conversions to text around them.

use crate::datatype::conversion::FOR_CLIENT;
use crate::datatype::nested::TextLike;
use pgrx::pg_sys;
use std::ptr::null_mut;

/// The list of a query's result columns.
///
/// # Safety
/// `query` is no utility statement.
pub unsafe fn result_columns(query: *mut pg_sys::Query) -> *mut pg_sys::List {
    // SAFETY: as promised by the caller.
    unsafe {
        let is_select = (*query).commandType == pg_sys::CmdType::CMD_SELECT;
        if is_select { (*query).targetList } else { (*query).returningList }
    }
}

/// The conversion of a value to text, or of an array to `text[]`.
///
/// # Safety
/// `value` is an expression of such a type.
pub unsafe fn conversion(value: *mut pg_sys::Expr, like: TextLike) -> *mut pg_sys::Expr {
    // SAFETY: new nodes in the query's memory context; all other fields are zero.
    unsafe {
        match like {
            TextLike::Value(_) => conversion_of_value(value),
            TextLike::Array { element } => {
                let part = new_node::<pg_sys::CaseTestExpr>(pg_sys::NodeTag::T_CaseTestExpr);
                (*part).typeId = element;
                (*part).typeMod = -1;
                let array = new_node::<pg_sys::ArrayCoerceExpr>(pg_sys::NodeTag::T_ArrayCoerceExpr);
                (*array).arg = value;
                (*array).elemexpr = conversion_of_value(part.cast());
                (*array).resulttype = pg_sys::TEXTARRAYOID;
                (*array).resulttypmod = -1;
                (*array).resultcollid = pg_sys::DEFAULT_COLLATION_OID;
                (*array).coerceformat = FOR_CLIENT;
                (*array).location = -1;
                array.cast()
            }
        }
    }
}

/// # Safety
/// `value` is an expression.
unsafe fn conversion_of_value(value: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: as in `conversion`.
    unsafe {
        let node = new_node::<pg_sys::CoerceViaIO>(pg_sys::NodeTag::T_CoerceViaIO);
        (*node).arg = value;
        (*node).resulttype = pg_sys::TEXTOID;
        (*node).resultcollid = pg_sys::DEFAULT_COLLATION_OID;
        (*node).coerceformat = FOR_CLIENT;
        (*node).location = -1;
        node.cast()
    }
}

/// # Safety
/// `T` is the node with this tag, for which zeroes are valid.
pub unsafe fn new_node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: as promised by the caller: each node begins with its tag.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>());
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node.cast()
    }
}

/// What our conversion of a column converts; null if there is none.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn converted(node: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: the node's tag says what it is.
    unsafe {
        match (*node.cast::<pg_sys::Node>()).type_ {
            pg_sys::NodeTag::T_CoerceViaIO => {
                let one = &*node.cast::<pg_sys::CoerceViaIO>();
                if one.coerceformat == FOR_CLIENT { one.arg } else { null_mut() }
            }
            pg_sys::NodeTag::T_ArrayCoerceExpr => {
                let one = &*node.cast::<pg_sys::ArrayCoerceExpr>();
                if one.coerceformat == FOR_CLIENT { one.arg } else { null_mut() }
            }
            _ => null_mut(),
        }
    }
}

/// A copy of a conversion, of this expression.
///
/// # Safety
/// `conversion` is one of ours.
pub unsafe fn with_argument(conversion: *mut pg_sys::Expr, argument: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: as promised by the caller; the tag says which it is.
    unsafe {
        if pgrx::is_a(conversion.cast(), pg_sys::NodeTag::T_ArrayCoerceExpr) {
            let one = pg_sys::copyObjectImpl(conversion.cast()).cast::<pg_sys::ArrayCoerceExpr>();
            (*one).arg = argument;
            one.cast()
        } else {
            let one = pg_sys::copyObjectImpl(conversion.cast()).cast::<pg_sys::CoerceViaIO>();
            (*one).arg = argument;
            one.cast()
        }
    }
}
