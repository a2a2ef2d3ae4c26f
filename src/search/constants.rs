//! Before a statement is planned: seals the texts in `value = ANY (array)`, `value IS DISTINCT FROM text` and
//! `NULLIF(value, text)`, where the text is a constant or a parameter that the plan is made for. The operators themselves
//! see to `=` and `<>` (`simplify`), but about these PostgreSQL asks no function.

use super::array_constants::seal_array;
use super::attempt::attempt;
use super::mark::mark_plan;
use super::simplify::operator_of;
use crate::datatype::catalog;
use crate::datatype::text_io::seal_unsearchable;
use crate::error::Error;
use crate::nodes::{length, nth};
use crate::plan_cache;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

thread_local! {
    static NEXT: Cell<pg_sys::planner_hook_type> = const { Cell::new(None) };
}

type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    // pgrx has them for some versions only, and with an error boundary at each node.
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "expression_tree_walker_impl")]
    fn expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "query_tree_walker_impl")]
    fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    fn check_stack_depth();
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

/// Installs the hook.
pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

/// Not guarded, and without anything to drop: errors pass through as PostgreSQL raised them.
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: everything is passed on as PostgreSQL gave it; a planner may change the query that it is given.
    unsafe {
        let before = plan_cache::constants_sealed();
        walk(query.cast(), params.cast());
        let plan = match NEXT.get() {
            Some(next) => next(query, text, options, params),
            None => standard_planner(query, text, options, params),
        };
        if plan_cache::constants_sealed() != before {
            mark_plan(plan);
        }
        plan
    }
}

/// Finds the comparisons. Not guarded: see [`plan`].
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, params: *mut c_void) -> bool {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                check_stack_depth();
                return query_tree_walker(node.cast(), walk, params, 0);
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr
            | pg_sys::NodeTag::T_DistinctExpr
            | pg_sys::NodeTag::T_NullIfExpr => seal(node, params.cast()),
            _ => {}
        }
        expression_tree_walker(node, walk, params)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn seal(node: *mut pg_sys::Node, params: pg_sys::ParamListInfo) {
    // SAFETY: PostgreSQL passes one of the nodes that `walk` lets through.
    let sealed = unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_ScalarArrayOpExpr => seal_array(&mut *node.cast(), params),
            kind => seal_text(&mut *node.cast(), kind == pg_sys::NodeTag::T_DistinctExpr, params),
        }
    };
    if let Err(error) = sealed {
        pgrx::pg_sys::panic::ErrorReport::from(error).report(PgLogLevel::ERROR);
    }
}

/// An operator between `encrypted_text` and text, in whatever order.
pub struct WithText {
    pub is_text_left: bool,
    pub encrypted: pg_sys::Oid,
    /// That of the same name between two values.
    pub sealed: pg_sys::Oid,
}

impl WithText {
    /// Inside a transaction.
    pub fn of(operator: pg_sys::Oid) -> Option<Self> {
        if operator.to_u32() < pg_sys::FirstNormalObjectId {
            return None;
        }
        // SAFETY: catalog look-ups; an operator that a query names exists.
        unsafe {
            let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::op_input_types(operator, &mut left, &mut right);
            let (is_text_left, encrypted) = match (left, right) {
                (pg_sys::TEXTOID, encrypted) => (true, encrypted),
                (encrypted, pg_sys::TEXTOID) => (false, encrypted),
                _ => return None,
            };
            if !catalog::is_encrypted_text(encrypted) {
                return None;
            }
            let name = pg_sys::get_opname(operator);
            if name.is_null() {
                return None;
            }
            let sealed =
                operator_of(pg_sys::get_opcode(operator), CStr::from_ptr(name), [encrypted, encrypted]);
            (sealed != pg_sys::InvalidOid).then_some(Self { is_text_left, encrypted, sealed })
        }
    }
}

/// Seals the text that a value is compared with. `NULLIF` gives its left side, which so must stay what it is.
///
/// # Safety
/// The parameters are null or what PostgreSQL plans with.
unsafe fn seal_text(
    comparison: &mut pg_sys::OpExpr,
    both_sides: bool,
    params: pg_sys::ParamListInfo,
) -> Result<(), Error> {
    let Some(operator) =
        WithText::of(comparison.opno).filter(|operator| both_sides || !operator.is_text_left)
    else {
        return Ok(());
    };
    let place = i32::from(!operator.is_text_left);
    // SAFETY: the nodes are those of the query; the comparison has two arguments.
    unsafe {
        let text = known(nth(comparison.args, place), pg_sys::TEXTOID, params);
        let Some(text) = text else { return Ok(()) };
        let sealed = seal_unsearchable(text)?.datum();
        comparison.args = with_constant(comparison.args, place, operator.encrypted, sealed);
        comparison.opno = operator.sealed;
        comparison.opfuncid = pg_sys::get_opcode(operator.sealed);
        comparison.inputcollid = pg_sys::InvalidOid;
    }
    Ok(())
}

/// Two arguments, one of them replaced by a constant.
///
/// # Safety
/// The list has two nodes; the value is of the type.
pub unsafe fn with_constant(
    arguments: *mut pg_sys::List,
    place: i32,
    type_oid: pg_sys::Oid,
    value: pg_sys::Datum,
) -> *mut pg_sys::List {
    plan_cache::note_constant();
    // SAFETY: as promised by the caller.
    unsafe {
        let constant = pg_sys::makeConst(type_oid, -1, pg_sys::InvalidOid, -1, value, false, false);
        let other = nth(arguments, 1 - place).cast();
        let (first, second) = if place == 0 { (constant.cast(), other) } else { (other, constant.cast()) };
        pg_sys::list_make2_impl(
            pg_sys::NodeTag::T_List,
            pg_sys::ListCell { ptr_value: first },
            pg_sys::ListCell { ptr_value: second },
        )
    }
}

/// The value of an expression of this type, if it can be computed before the statement runs, and is not null. PostgreSQL may
/// yet find that it need not be computed, so it raises no error that the statement might not.
///
/// # Safety
/// The parameters are null or what PostgreSQL plans with.
pub unsafe fn known(
    expression: *mut pg_sys::Node,
    type_oid: pg_sys::Oid,
    params: pg_sys::ParamListInfo,
) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller; the node's tag says what it is.
    unsafe {
        let computed = match means(expression) {
            _ if !expression.is_null() && pgrx::is_a(expression, pg_sys::NodeTag::T_Const) => expression,
            Means::None => return None,
            Means::Values => compute(expression, params),
            Means::Functions => attempt(|| compute(expression, params))?,
        };
        if computed.is_null() || !pgrx::is_a(computed, pg_sys::NodeTag::T_Const) {
            return None;
        }
        let constant = &*computed.cast::<pg_sys::Const>();
        (constant.consttype == type_oid && !constant.constisnull).then_some(constant.constvalue)
    }
}

/// The planner's own computation of constants, which looks at nothing else of the planner's state.
///
/// # Safety
/// As [`known`].
unsafe fn compute(expression: *mut pg_sys::Node, params: pg_sys::ParamListInfo) -> *mut pg_sys::Node {
    let mut global = pg_sys::PlannerGlobal {
        type_: pg_sys::NodeTag::T_PlannerGlobal,
        boundParams: params,
        ..Default::default()
    };
    let mut root = pg_sys::PlannerInfo {
        type_: pg_sys::NodeTag::T_PlannerInfo,
        glob: &mut global,
        ..Default::default()
    };
    // SAFETY: as promised by the caller.
    unsafe { pg_sys::eval_const_expressions(&mut root, expression) }
}

/// What it takes to compute an expression; the most of its parts counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Means {
    /// Constants and parameters, which raise no errors.
    Values,
    /// PostgreSQL's functions of them as well, which may.
    Functions,
    /// It can't be, or by functions of others, which may do anything.
    None,
}

/// # Safety
/// `expression` is null or a node.
unsafe fn means(expression: *mut pg_sys::Node) -> Means {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if expression.is_null() {
            return Means::None;
        }
        pg_sys::check_stack_depth();
        match (*expression).type_ {
            pg_sys::NodeTag::T_Const | pg_sys::NodeTag::T_Param => Means::Values,
            pg_sys::NodeTag::T_RelabelType => means((*expression.cast::<pg_sys::RelabelType>()).arg.cast()),
            // From varchar[] to text[]: nothing is computed for an element.
            pg_sys::NodeTag::T_ArrayCoerceExpr => {
                let cast = &*expression.cast::<pg_sys::ArrayCoerceExpr>();
                let is_relabelled = pgrx::is_a(cast.elemexpr.cast(), pg_sys::NodeTag::T_RelabelType);
                if is_relabelled { means(cast.arg.cast()) } else { Means::None }
            }
            pg_sys::NodeTag::T_ArrayExpr => {
                let array = &*expression.cast::<pg_sys::ArrayExpr>();
                // Arrays that are put together must have the same dimensions.
                let own = if array.multidims { Means::Functions } else { Means::Values };
                means_of_all(array.elements).max(own)
            }
            // PostgreSQL's own, such as lower() and string_to_array().
            pg_sys::NodeTag::T_FuncExpr => {
                let call = &*expression.cast::<pg_sys::FuncExpr>();
                if call.funcid.to_u32() < pg_sys::FirstNormalObjectId {
                    means_of_all(call.args).max(Means::Functions)
                } else {
                    Means::None
                }
            }
            _ => Means::None,
        }
    }
}

/// # Safety
/// `expressions` is null or a list of nodes.
unsafe fn means_of_all(expressions: *mut pg_sys::List) -> Means {
    // SAFETY: as promised by the caller.
    let each = (0..unsafe { length(expressions) }).map(|index| unsafe { means(nth(expressions, index)) });
    each.max().unwrap_or(Means::Values)
}
