//! Marks what holds sealed literals. A literal is sealed when its statement is analysed, and plans are made from that
//! statement again and again. Each literal is wrapped in a call of `prism_crypt._sealed_constant()`, which returns its
//! argument. The planner removes the call, but PostgreSQL remembers that the statement depends on the function. See
//! `plan_cache::forget_constants`.

use super::eq_support::call_to_simplify;
use super::view_definition;
use crate::datum::Node;
use crate::error::SqlResult;
use crate::nodes::{check_stack_depth, expression_tree_walker, query_tree_walker};
use crate::plan_cache;
use crate::privilege::find_function;
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

/// `prism_crypt._sealed_constant(anyelement) → anyelement`: returns its argument.
#[pg_extern(sql = false)]
fn sealed_constant(value: pgrx::AnyElement) -> pgrx::AnyElement {
    value
}

/// `prism_crypt._sealed_constant_support(internal) → internal`: planner support: replaces the call with its argument.
/// PostgreSQL would also fold a call of an immutable function, but it would check whether the role may execute it.
#[pg_extern(sql = false)]
fn sealed_constant_support(request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a support request; a call to simplify has one argument.
    unsafe {
        Ok(match call_to_simplify(&request, 1)? {
            Some(call) => Node::of(pg_sys::list_nth(call.args, 0).cast()),
            None => Node::NONE,
        })
    }
}

/// Marks a plan that holds constants sealed while it was made.
#[pg_guard]
pub unsafe extern "C-unwind" fn mark_plan(plan: *mut pg_sys::PlannedStmt) {
    let mark = hash_of(function());
    plan_cache::constants_are_in_plans(mark);
    let Some(hash) = mark else { return };
    // SAFETY: the planner has just made the plan, in this memory context; all other fields of the new node are zero.
    unsafe {
        let item: *mut pg_sys::PlanInvalItem = pg_sys::palloc0(size_of::<pg_sys::PlanInvalItem>()).cast();
        (*item).type_ = pg_sys::NodeTag::T_PlanInvalItem;
        (*item).cacheId = pg_sys::SysCacheIdentifier::PROCOID as c_int;
        (*item).hashValue = hash;
        (*plan).invalItems = pg_sys::lappend((*plan).invalItems, item.cast());
    }
}

/// The marking function, if the installed version of the extension has it. Inside a transaction.
fn function() -> pg_sys::Oid {
    // SAFETY: catalog look-ups. Nobody else creates functions in this schema.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"prism_crypt".as_ptr(), true);
        find_function(schema, c"_sealed_constant", &[pg_sys::ANYELEMENTOID])
    }
}

/// The hash that identifies a function in what depends on it.
fn hash_of(function: pg_sys::Oid) -> Option<u32> {
    let cache = pg_sys::SysCacheIdentifier::PROCOID as c_int;
    let none = pg_sys::Datum::null();
    // SAFETY: the key of this cache is an oid.
    (function != pg_sys::InvalidOid).then(|| unsafe {
        pg_sys::GetSysCacheHashValue(cache, pg_sys::Datum::from(function), none, none, none)
    })
}

type Mutator = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;

unsafe extern "C-unwind" {
    // pgrx binds these for some versions only, and with an error boundary at each node.
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "expression_tree_mutator_impl")]
    fn expression_tree_mutator(
        node: *mut pg_sys::Node,
        mutator: Mutator,
        context: *mut c_void,
    ) -> *mut pg_sys::Node;
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "query_tree_mutator_impl")]
    fn query_tree_mutator(
        query: *mut pg_sys::Query,
        mutator: Mutator,
        context: *mut c_void,
        flags: c_int,
    ) -> *mut pg_sys::Query;
}

/// Marks the sealed literals of a statement that was just analysed, if it may have any; `text` is its source. Not guarded, and
/// holds nothing to drop, like the whole walk: errors pass through as PostgreSQL raised them.
///
/// # Safety
/// The arguments are what PostgreSQL passed to the hook, which may change the query.
pub unsafe fn mark_literals(query: *mut pg_sys::Query, text: *const c_char) {
    if !plan_cache::may_have_sealed_literals() || view_definition::is_running(text) {
        return;
    }
    if view_definition::are_unknown() {
        plan_cache::constants_are_in_plans(None);
    } else {
        // SAFETY: as promised by the caller.
        unsafe { mark_query(query) };
    }
}

/// Marks the literals of a query, or of the one in a utility statement.
///
/// # Safety
/// `query` was just analysed.
unsafe fn mark_query(query: *mut pg_sys::Query) {
    // SAFETY: the nodes' tags say what they are.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_UTILITY {
            if query_tree_walker(query, holds_literal, null_mut(), 0) {
                let flags = pg_sys::QTW_DONT_COPY_QUERY as c_int;
                query_tree_mutator(query, wrap, found_mark(), flags);
            }
            return;
        }
        let statement = (*query).utilityStmt;
        let inner = match (*statement).type_ {
            pg_sys::NodeTag::T_DeclareCursorStmt => (*statement.cast::<pg_sys::DeclareCursorStmt>()).query,
            pg_sys::NodeTag::T_ExplainStmt => (*statement.cast::<pg_sys::ExplainStmt>()).query,
            pg_sys::NodeTag::T_CreateTableAsStmt => (*statement.cast::<pg_sys::CreateTableAsStmt>()).query,
            pg_sys::NodeTag::T_CallStmt => {
                let call = &mut *statement.cast::<pg_sys::CallStmt>();
                if holds_literal(call.funcexpr.cast(), null_mut()) {
                    call.funcexpr = wrap(call.funcexpr.cast(), found_mark()).cast();
                }
                return;
            }
            _ => return,
        };
        // CREATE TABLE AS EXECUTE has none.
        if pgrx::is_a(inner, pg_sys::NodeTag::T_Query) {
            mark_query(inner.cast());
        }
    }
}

/// Whether there is a constant that may hold a sealed value. Any of a user-defined type may: a composite, a range, an array.
unsafe extern "C-unwind" fn holds_literal(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                check_stack_depth();
                query_tree_walker(node.cast(), holds_literal, context, 0)
            }
            pg_sys::NodeTag::T_Const => is_marked(&*node.cast()),
            _ => expression_tree_walker(node, holds_literal, context),
        }
    }
}

fn is_marked(constant: &pg_sys::Const) -> bool {
    // A call would lose the type modifier. Literals of types with one get it from a cast.
    constant.consttype.to_u32() >= pg_sys::FirstNormalObjectId
        && !constant.constisnull
        && constant.consttypmod == -1
}

/// A copy with every such constant wrapped in a call of the function whose oid is `context`.
unsafe extern "C-unwind" fn wrap(node: *mut pg_sys::Node, context: *mut c_void) -> *mut pg_sys::Node {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if node.is_null() {
            return node;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                check_stack_depth();
                query_tree_mutator(node.cast(), wrap, context, 0).cast()
            }
            pg_sys::NodeTag::T_Const if is_marked(&*node.cast()) => marked(node.cast(), context),
            _ => expression_tree_mutator(node, wrap, context),
        }
    }
}

/// Looks up the function, and records that plans depend on it. Returns its oid as an address: 0 if there is none.
#[pg_guard]
extern "C-unwind" fn found_mark() -> *mut c_void {
    let function = function();
    plan_cache::constants_are_in_plans(hash_of(function));
    std::ptr::without_provenance_mut(function.to_u32() as usize)
}

#[pg_guard]
unsafe extern "C-unwind" fn marked(constant: *mut pg_sys::Const, context: *mut c_void) -> *mut pg_sys::Node {
    let Ok(function) = u32::try_from(context.addr()) else { return constant.cast() };
    if function == 0 {
        return constant.cast();
    }
    // SAFETY: the constant belongs to the query, and the call has its type and collation.
    unsafe {
        let (result, collation) = ((*constant).consttype, (*constant).constcollid);
        let argument = pg_sys::ListCell { ptr_value: constant.cast() };
        let arguments = pg_sys::list_make1_impl(pg_sys::NodeTag::T_List, argument);
        let form = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
        pg_sys::makeFuncExpr(pg_sys::Oid::from(function), result, arguments, collation, collation, form)
            .cast()
    }
}
