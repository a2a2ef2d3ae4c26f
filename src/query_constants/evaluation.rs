//! Computes the value of an expression before its statement is planned, as far as that is possible without running
//! user-defined code.

use super::subtransaction::attempt;
use crate::nodes::{length, nth};
use pgrx::pg_sys;

/// The value of an expression of this type, if it can be computed before the statement runs and is not null. The statement may
/// never compute it, so this raises no error that the statement might not raise.
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

/// The planner's own constant folding, which uses nothing else of the planner's state.
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

/// What computing an expression takes: the maximum over its parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Means {
    /// Constants and parameters, which raise no errors.
    Values,
    /// PostgreSQL's own functions as well, which may raise errors.
    Functions,
    /// It can't be computed, or only by user-defined functions, which may do anything.
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
            // From varchar[] to text[]: elements are only relabelled.
            pg_sys::NodeTag::T_ArrayCoerceExpr => {
                let cast = &*expression.cast::<pg_sys::ArrayCoerceExpr>();
                let is_relabelled = pgrx::is_a(cast.elemexpr.cast(), pg_sys::NodeTag::T_RelabelType);
                if is_relabelled { means(cast.arg.cast()) } else { Means::None }
            }
            pg_sys::NodeTag::T_ArrayExpr => {
                let array = &*expression.cast::<pg_sys::ArrayExpr>();
                // Combining arrays fails if their dimensions differ.
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
