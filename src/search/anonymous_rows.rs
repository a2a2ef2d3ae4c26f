//! Rows without a type of their own, as those of a subquery: `ORDER BY u`. What they are made of can't be told from where they are sorted, so they count as
//! holding values if anything in their statement does.

use crate::datatype::nested;
use crate::nodes::{check_stack_depth, expression_tree_walker, query_tree_walker};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

thread_local! {
    /// The statement that is being looked at.
    static STATEMENT: Cell<*mut pg_sys::Query> = const { Cell::new(null_mut()) };
}

/// Records which statement is being looked at, until the next one is.
pub fn statement(query: *mut pg_sys::Query) {
    STATEMENT.set(query);
}

/// Whether rows without a type of their own may hold values, in the statement that is being looked at.
///
/// # Safety
/// The statement still exists.
pub unsafe fn may_hold_values() -> bool {
    let statement = STATEMENT.get();
    // SAFETY: as promised by the caller.
    !statement.is_null() && unsafe { mentions_values(statement.cast(), null_mut()) }
}

/// Whether an expression in a tree is, or can hold, an encrypted value.
unsafe extern "C-unwind" fn mentions_values(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::NodeTag::{
        T_Aggref, T_CoerceToDomain, T_CoerceViaIO, T_Const, T_FuncExpr, T_Param, T_Query, T_RangeTblFunction,
        T_Var,
    };
    // SAFETY: the node's tag says what it is.
    unsafe {
        if node.is_null() {
            return false;
        }
        let mentions = match (*node).type_ {
            T_Query => {
                check_stack_depth();
                return query_tree_walker(node.cast(), mentions_values, context, 0);
            }
            T_Var | T_Const | T_Param | T_FuncExpr | T_Aggref | T_CoerceViaIO | T_CoerceToDomain => {
                is_value(node)
            }
            T_RangeTblFunction => has_values((*node.cast::<pg_sys::RangeTblFunction>()).funccoltypes),
            _ => false,
        };
        mentions || expression_tree_walker(node, mentions_values, context)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_value(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: `mentions_values` passes expressions.
    nested::may_hold_encrypted(unsafe { pg_sys::exprType(expression) })
}

#[pg_guard]
unsafe extern "C-unwind" fn has_values(types: *mut pg_sys::List) -> bool {
    // SAFETY: null or a list of OIDs, of which it has this many.
    unsafe {
        let count = if types.is_null() { 0 } else { (*types).length };
        (0..count).any(|index| nested::may_hold_encrypted(pg_sys::list_nth_oid(types, index)))
    }
}
