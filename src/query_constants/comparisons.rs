//! Before a statement is planned: seals the texts in `value = ANY (array)`, `value IS DISTINCT FROM text` and
//! `NULLIF(value, text)`, if the text is a constant or a parameter whose value the plan is made for, and looks through casts of arrays
//! of texts. Support functions handle `=` and `<>` (`eq_support`) and arrays of texts (`array_support`); PostgreSQL calls none for these.

use super::array_casts::look_through_cast;
use super::array_support::is_for_arrays;
use super::arrays::seal_array;
use super::evaluation::known;
use super::with_text::{WithText, seal_unsearchable, with_constant};
use crate::error::Error;
use crate::nodes::nth;
use pgrx::prelude::*;

/// Seals the constants of a comparison in a query that is about to be planned; other nodes are left alone. Not guarded, and holds
/// nothing to drop: errors pass through as PostgreSQL raised them.
///
/// # Safety
/// `node` is one of PostgreSQL's query, which a planner may change. `params` are what it is planned with, or null.
#[inline]
pub unsafe fn seal_in(node: *mut pg_sys::Node, params: pg_sys::ParamListInfo) {
    // SAFETY: as promised by the caller.
    unsafe {
        let is_comparison = match (*node).type_ {
            pg_sys::NodeTag::T_ScalarArrayOpExpr
            | pg_sys::NodeTag::T_DistinctExpr
            | pg_sys::NodeTag::T_NullIfExpr => true,
            pg_sys::NodeTag::T_OpExpr => is_for_arrays((*node.cast::<pg_sys::OpExpr>()).opno),
            #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17")))]
            pg_sys::NodeTag::T_SubLink => super::values_lists::may_compare_values(&*node.cast()),
            _ => false,
        };
        if is_comparison {
            seal(node, params);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn seal(node: *mut pg_sys::Node, params: pg_sys::ParamListInfo) {
    // SAFETY: `seal_in` passes only these kinds of nodes, and the tag says which one it is.
    let sealed = unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_ScalarArrayOpExpr => seal_array(&mut *node.cast(), params),
            pg_sys::NodeTag::T_OpExpr => look_through_cast(&mut *node.cast(), params),
            #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17")))]
            pg_sys::NodeTag::T_SubLink => super::values_lists::seal_values(&mut *node.cast(), params),
            kind => seal_text(&mut *node.cast(), kind == pg_sys::NodeTag::T_DistinctExpr, params),
        }
    };
    if let Err(error) = sealed {
        error.raise();
    }
}

/// Seals the text that a value is compared with. `NULLIF` returns its left side, so that must stay as it is.
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
