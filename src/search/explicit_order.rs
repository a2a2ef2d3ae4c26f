//! Values have no order. PostgreSQL sorts them by their search tags, for unique indexes, `DISTINCT`, grouping and windows, and that must
//! never show: a statement that orders by values itself is an error, before it runs and wherever in it that is.
//!
//! - `ORDER BY` of a query, a window or an aggregate, also by arrays, rows and ranges that hold values,
//! - `<` and its like between arrays, rows or ranges, and `max()` and `min()` of them; GREATEST and LEAST,
//! - `PARTITION BY RANGE`.
//!
//! `<` between values is an operator of its own that raises the same error (`index_order`).

use super::anonymous_rows;
use crate::datatype::{nested, type_lookup};
use crate::error::Error;
use crate::nodes::{length, nth, visit_all};
use pgrx::prelude::*;
use std::ptr::{null_mut, without_provenance_mut};

/// How many functions are looked into on the way to an order. They may call themselves.
const MAX_DEPTH: usize = 8;

/// PostgreSQL's own functions that compare, sort or rank values of any type by their order (`pg_proc.dat`).
const ORDERS: &[u32] = &[
    pg_sys::F_ARRAY_LT,
    pg_sys::F_ARRAY_LE,
    pg_sys::F_ARRAY_GE,
    pg_sys::F_ARRAY_GT,
    pg_sys::F_ARRAY_LARGER,
    pg_sys::F_ARRAY_SMALLER,
    pg_sys::F_BTARRAYCMP,
    pg_sys::F_MAX_ANYARRAY,
    pg_sys::F_MIN_ANYARRAY,
    pg_sys::F_RECORD_LT,
    pg_sys::F_RECORD_LE,
    pg_sys::F_RECORD_GE,
    pg_sys::F_RECORD_GT,
    pg_sys::F_BTRECORDCMP,
    pg_sys::F_RANGE_LT,
    pg_sys::F_RANGE_LE,
    pg_sys::F_RANGE_GE,
    pg_sys::F_RANGE_GT,
    pg_sys::F_RANGE_CMP,
    pg_sys::F_MULTIRANGE_LT,
    pg_sys::F_MULTIRANGE_LE,
    pg_sys::F_MULTIRANGE_GE,
    pg_sys::F_MULTIRANGE_GT,
    pg_sys::F_MULTIRANGE_CMP,
    pg_sys::F_WIDTH_BUCKET_ANYCOMPATIBLE_ANYCOMPATIBLEARRAY,
    #[cfg(feature = "pg18")]
    pg_sys::F_MAX_RECORD,
    #[cfg(feature = "pg18")]
    pg_sys::F_MIN_RECORD,
    #[cfg(feature = "pg18")]
    pg_sys::F_RECORD_LARGER,
    #[cfg(feature = "pg18")]
    pg_sys::F_RECORD_SMALLER,
    #[cfg(feature = "pg18")]
    pg_sys::F_ARRAY_SORT_ANYARRAY,
    #[cfg(feature = "pg18")]
    pg_sys::F_ARRAY_SORT_ANYARRAY_BOOL,
    #[cfg(feature = "pg18")]
    pg_sys::F_ARRAY_SORT_ANYARRAY_BOOL_BOOL,
];

/// Raises an error if a node of a query, without the nodes below it, orders by values. Most nodes take no more than a look at their
/// tag. Not guarded, and without anything to drop: errors pass through as they were raised.
///
/// # Safety
/// A node of an analysed query.
#[inline]
pub unsafe fn refuse(node: *mut pg_sys::Node) {
    // SAFETY: as promised by the caller.
    unsafe { refuse_at(node, 0) }
}

#[inline]
unsafe fn refuse_at(node: *mut pg_sys::Node, depth: usize) {
    // SAFETY: the node's tag says what it is.
    unsafe {
        let is_suspect = match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                let query = &*node.cast::<pg_sys::Query>();
                !query.sortClause.is_null() || !query.windowClause.is_null()
            }
            pg_sys::NodeTag::T_Aggref => {
                let aggregate = &*node.cast::<pg_sys::Aggref>();
                !aggregate.aggorder.is_null() || orders(aggregate.aggfnoid)
            }
            pg_sys::NodeTag::T_WindowFunc => orders((*node.cast::<pg_sys::WindowFunc>()).winfnoid),
            pg_sys::NodeTag::T_FuncExpr => orders((*node.cast::<pg_sys::FuncExpr>()).funcid),
            pg_sys::NodeTag::T_OpExpr => orders((*node.cast::<pg_sys::OpExpr>()).opfuncid),
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                orders((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opfuncid)
            }
            pg_sys::NodeTag::T_MinMaxExpr | pg_sys::NodeTag::T_RowCompareExpr => true,
            pg_sys::NodeTag::T_RangeTblFunction => !written_by_users(node).is_null(),
            _ => false,
        };
        if is_suspect {
            look_at(node, depth);
        }
    }
}

/// The call in FROM of a function that initdb did not create; otherwise null.
///
/// # Safety
/// A node of this kind.
unsafe fn written_by_users(node: *mut pg_sys::Node) -> *mut pg_sys::FuncExpr {
    // SAFETY: as promised by the caller; the tag of what it calls says what that is.
    unsafe {
        let expression = (*node.cast::<pg_sys::RangeTblFunction>()).funcexpr;
        let call = expression.cast::<pg_sys::FuncExpr>();
        let is_call = !expression.is_null() && pgrx::is_a(expression, pg_sys::NodeTag::T_FuncExpr);
        if is_call && (*call).funcid.to_u32() >= pg_sys::FirstNormalObjectId { call } else { null_mut() }
    }
}

#[inline]
fn orders(function: pg_sys::Oid) -> bool {
    function.to_u32() < pg_sys::FirstNormalObjectId && ORDERS.contains(&function.to_u32())
}

#[pg_guard]
unsafe extern "C-unwind" fn look_at(node: *mut pg_sys::Node, depth: usize) {
    // SAFETY: `refuse` passes only these kinds of nodes, and the tag says which one it is.
    let orders_by_values = unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                let query = &*node.cast::<pg_sys::Query>();
                sorts_by_values(query.sortClause, query.targetList)
                    || any(query.windowClause, |window| {
                        let window = &*window.cast::<pg_sys::WindowClause>();
                        sorts_by_values(window.orderClause, query.targetList)
                    })
            }
            pg_sys::NodeTag::T_Aggref => {
                let aggregate = &*node.cast::<pg_sys::Aggref>();
                sorts_by_values(aggregate.aggorder, aggregate.args)
                    || orders(aggregate.aggfnoid)
                        && any(aggregate.args, |argument| {
                            holds_values((*argument.cast::<pg_sys::TargetEntry>()).expr.cast())
                        })
            }
            pg_sys::NodeTag::T_RangeTblFunction => {
                if depth < MAX_DEPTH {
                    look_into((*written_by_users(node)).funcid, depth + 1);
                }
                false
            }
            pg_sys::NodeTag::T_WindowFunc => any_holds_values((*node.cast::<pg_sys::WindowFunc>()).args),
            pg_sys::NodeTag::T_FuncExpr => any_holds_values((*node.cast::<pg_sys::FuncExpr>()).args),
            pg_sys::NodeTag::T_OpExpr => any_holds_values((*node.cast::<pg_sys::OpExpr>()).args),
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                any_holds_values((*node.cast::<pg_sys::ScalarArrayOpExpr>()).args)
            }
            pg_sys::NodeTag::T_RowCompareExpr => {
                any_holds_values((*node.cast::<pg_sys::RowCompareExpr>()).largs)
            }
            _ => any_holds_values((*node.cast::<pg_sys::MinMaxExpr>()).args),
        }
    };
    if orders_by_values {
        Error::NoOrder.raise();
    }
}

/// Looks into a function with a body in standard SQL (`BEGIN ATOMIC`). The body was not analysed as a statement, and PostgreSQL may put it
/// in the place of the call, where it is not planned as one.
///
/// # Safety
/// Inside a transaction.
unsafe fn look_into(function: pg_sys::Oid, depth: usize) {
    let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
    // SAFETY: the row is released after it was read; PostgreSQL reads back the queries that it wrote there.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(function));
        if row.is_null() {
            return;
        }
        // PostgreSQL puts no volatile function in the place of its call.
        let form = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>();
        if form.provolatile as u8 == pg_sys::PROVOLATILE_VOLATILE {
            pg_sys::ReleaseSysCache(row);
            return;
        }
        let mut is_null = false;
        let column = pg_sys::Anum_pg_proc_prosqlbody as pg_sys::AttrNumber;
        let body = pg_sys::SysCacheGetAttr(cache, row, column, &mut is_null);
        let body = if is_null { null_mut() } else { pg_sys::text_to_cstring(body.cast_mut_ptr()) };
        pg_sys::ReleaseSysCache(row);
        if !body.is_null() {
            visit_all(
                pg_sys::stringToNode(body).cast(),
                |node, depth| refuse_at(node, depth.addr()),
                without_provenance_mut(depth),
            );
        }
    }
}

/// Raises an error if a `CREATE TABLE` that was run partitions by ranges of values.
///
/// # Safety
/// Inside a transaction; `node` is a utility statement that was run.
pub unsafe fn refuse_range_partitions(node: *mut pg_sys::Node) {
    const STRATEGY: pg_sys::AttrNumber = 2;
    const COLUMNS: pg_sys::AttrNumber = 5;
    const CLASSES: pg_sys::AttrNumber = 6;
    let cache = pg_sys::SysCacheIdentifier::PARTRELID as i32;
    // SAFETY: the node's tag says what it is. The row of pg_partitioned_table is released after it was read; these columns of it are
    // never null.
    unsafe {
        let statement = node.cast::<pg_sys::CreateStmt>();
        if !pgrx::is_a(node, pg_sys::NodeTag::T_CreateStmt) || (*statement).partspec.is_null() {
            return;
        }
        let table = type_lookup::named_relation((*statement).relation);
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(table));
        if row.is_null() {
            return;
        }
        let mut is_null = false;
        let strategy = pg_sys::SysCacheGetAttr(cache, row, STRATEGY, &mut is_null);
        let columns = pg_sys::SysCacheGetAttr(cache, row, COLUMNS, &mut is_null);
        let classes = pg_sys::SysCacheGetAttr(cache, row, CLASSES, &mut is_null);
        let columns = &*pg_sys::pg_detoast_datum(columns.cast_mut_ptr()).cast::<pg_sys::int2vector>();
        let classes = &*pg_sys::pg_detoast_datum(classes.cast_mut_ptr()).cast::<pg_sys::oidvector>();
        // PostgreSQL's own classes for arrays and rows order them by what is in them.
        let orders_parts = |column: &i16| {
            let one = pg_sys::get_atttype(table, *column);
            *column > 0 && nested::may_hold_encrypted(one) && !nested::is_leaf(one)
        };
        let is_ours =
            |class: &pg_sys::Oid| type_lookup::is_of_extension(pg_sys::OperatorClassRelationId, *class);
        let by_values = strategy.value() as u8 == b'r'
            && (classes.values.as_slice(classes.dim1 as usize).iter().any(is_ours)
                || columns.values.as_slice(columns.dim1 as usize).iter().any(orders_parts));
        pg_sys::ReleaseSysCache(row);
        if by_values {
            Error::NoOrder.raise();
        }
    }
}

/// Whether one of these clauses sorts by an expression that holds values.
///
/// # Safety
/// Sort clauses of a query or an aggregate, and its target list.
unsafe fn sorts_by_values(clauses: *mut pg_sys::List, targets: *mut pg_sys::List) -> bool {
    // SAFETY: as promised by the caller: each clause refers to a target.
    unsafe { any(clauses, |clause| holds_values(pg_sys::get_sortgroupclause_expr(clause.cast(), targets))) }
}

/// # Safety
/// `expressions` is null or a list of expressions.
unsafe fn any_holds_values(expressions: *mut pg_sys::List) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { any(expressions, |expression| holds_values(expression)) }
}

/// Whether the results of an expression are or can hold encrypted values. The fields of an anonymous row, and those of an array of such
/// rows, are looked at if it is made here.
///
/// # Safety
/// An expression of an analysed query.
unsafe fn holds_values(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised by the caller; the node's tag says what it is.
    unsafe {
        pg_sys::check_stack_depth();
        let type_oid = pg_sys::exprType(expression);
        if pgrx::is_a(expression, pg_sys::NodeTag::T_RowExpr) && type_oid == pg_sys::RECORDOID {
            any_holds_values((*expression.cast::<pg_sys::RowExpr>()).args)
        } else if pgrx::is_a(expression, pg_sys::NodeTag::T_ArrayExpr) && type_oid == pg_sys::RECORDARRAYOID {
            any_holds_values((*expression.cast::<pg_sys::ArrayExpr>()).elements)
        } else if [pg_sys::RECORDOID, pg_sys::RECORDARRAYOID].contains(&type_oid) {
            anonymous_rows::may_hold_values()
        } else {
            nested::may_hold_encrypted(type_oid)
        }
    }
}

/// # Safety
/// `list` is null or a list of nodes.
unsafe fn any(list: *mut pg_sys::List, mut test: impl FnMut(*mut pg_sys::Node) -> bool) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { (0..length(list)).any(|index| test(nth(list, index))) }
}
