//! `encrypted_text[] @> text[]::encrypted_text[]`, as some tools write it: the cast would seal each text for each row, and keep
//! an index from being used. PostgreSQL finds its own operator for arrays there, for which it calls no support function.

use super::array_support::{sealed_array, with_texts};
use super::arrays::texts_in;
use super::evaluation::known;
use super::with_text::{may_seal, with_argument};
use crate::datatype::type_lookup;
use crate::error::Error;
use crate::nodes::{has_name, nth};
use pgrx::PgMemoryContexts;
use pgrx::prelude::*;

/// Seals the texts if they are known, and otherwise puts our operator with texts into the comparison.
///
/// # Safety
/// A comparison of a query that is about to be planned, with one of PostgreSQL's operators for arrays. The parameters are null or what
/// PostgreSQL plans with.
pub unsafe fn look_through_cast(
    comparison: &mut pg_sys::OpExpr,
    params: pg_sys::ParamListInfo,
) -> Result<(), Error> {
    // SAFETY: as promised by the caller: two arguments.
    unsafe {
        for place in [1, 0] {
            let Some((cast, texts)) = cast_texts(nth(comparison.args, place)) else { continue };
            let values = nth(comparison.args, 1 - place);
            let element = pg_sys::get_element_type(pg_sys::getBaseType(pg_sys::exprType(values)));
            if !type_lookup::is_encrypted_text(element) {
                continue;
            }
            if may_seal(cast) {
                // A computed array may be large and is not needed afterwards.
                let mut memory = PgMemoryContexts::new("prism_crypt array");
                let array = memory.switch_to(|_| known(texts, pg_sys::TEXTARRAYOID, params));
                if let Some(array) = array
                    && let Some(sealed) = sealed_array(array, element)?
                {
                    comparison.args = with_argument(comparison.args, place, sealed.cast());
                    return Ok(());
                }
            }
            let ours = with_texts(cast, comparison.opno, place == 0);
            if !type_lookup::is_of_extension(pg_sys::OperatorRelationId, ours) {
                return Ok(());
            }
            let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::op_input_types(ours, &mut left, &mut right);
            let (of_values, of_texts) = if place == 0 { (right, left) } else { (left, right) };
            let arguments = with_argument(comparison.args, place, relabelled(texts, of_texts));
            comparison.args = with_argument(arguments, 1 - place, relabelled(values, of_values));
            comparison.opno = ours;
            comparison.opfuncid = pg_sys::get_opcode(ours);
            comparison.inputcollid = pg_sys::InvalidOid;
            return Ok(());
        }
    }
    Ok(())
}

/// The function and the texts of a cast from an array of texts to one of values.
///
/// # Safety
/// An argument of a comparison.
unsafe fn cast_texts(node: *mut pg_sys::Node) -> Option<(pg_sys::Oid, *mut pg_sys::Node)> {
    // SAFETY: as promised by the caller; the nodes' tags say what they are.
    unsafe {
        if !pgrx::is_a(node, pg_sys::NodeTag::T_ArrayCoerceExpr) {
            return None;
        }
        let cast = &*node.cast::<pg_sys::ArrayCoerceExpr>();
        if !pgrx::is_a(cast.elemexpr.cast(), pg_sys::NodeTag::T_FuncExpr) {
            return None;
        }
        let function = (*cast.elemexpr.cast::<pg_sys::FuncExpr>()).funcid;
        let is_ours = type_lookup::is_of_extension(pg_sys::ProcedureRelationId, function)
            && has_name(pg_sys::get_func_name(function), c"encrypted_text");
        if is_ours { texts_in(cast).map(|texts| (function, texts)) } else { None }
    }
}

/// # Safety
/// `array` is an expression whose values may be taken for this type.
unsafe fn relabelled(array: *mut pg_sys::Node, type_oid: pg_sys::Oid) -> *mut pg_sys::Node {
    let form = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
    // SAFETY: as promised by the caller.
    unsafe { pg_sys::makeRelabelType(array.cast(), type_oid, -1, pg_sys::InvalidOid, form).cast() }
}
