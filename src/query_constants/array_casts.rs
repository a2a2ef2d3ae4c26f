//! `encrypted_text[] @> text[]::encrypted_text[]`, as some tools write it: the cast would seal each text for each row, and keep
//! an index from being used. PostgreSQL finds its own operator for arrays there, for which it calls no support function.

use super::array_support::{sealed_array, with_texts};
use super::evaluation::known;
use super::with_text::{may_seal, with_argument};
use crate::datatype::type_lookup;
use crate::error::Error;
use crate::nodes::{has_name, length, nth};
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
            let element = pg_sys::get_base_element_type(pg_sys::exprType(values));
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

/// The function and the texts of a cast from an array of texts to one of values: of a whole array, or of each element of `ARRAY[…]`. The
/// texts are of type `text[]`.
///
/// # Safety
/// An argument of a comparison.
pub unsafe fn cast_texts(node: *mut pg_sys::Node) -> Option<(pg_sys::Oid, *mut pg_sys::Node)> {
    // SAFETY: as promised by the caller; the nodes' tags say what they are.
    unsafe {
        if node.is_null() {
            return None;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_ArrayCoerceExpr => {
                let cast = &*node.cast::<pg_sys::ArrayCoerceExpr>();
                let (function, _) = our_cast(cast.elemexpr.cast())?;
                let texts = cast.arg.cast();
                let is_text = match pg_sys::exprType(texts) {
                    pg_sys::TEXTARRAYOID => true,
                    pg_sys::VARCHARARRAYOID => false,
                    _ => return None,
                };
                Some((function, if is_text { texts } else { relabelled(texts, pg_sys::TEXTARRAYOID) }))
            }
            pg_sys::NodeTag::T_ArrayExpr => texts_of_elements(&*node.cast::<pg_sys::ArrayExpr>()),
            _ => None,
        }
    }
}

/// # Safety
/// An expression of a query.
unsafe fn texts_of_elements(array: &pg_sys::ArrayExpr) -> Option<(pg_sys::Oid, *mut pg_sys::Node)> {
    // SAFETY: as promised by the caller. The new node has the fields of the old one, but for its types and elements.
    unsafe {
        let (mut function, mut texts) = (None, std::ptr::null_mut());
        for index in 0..length(array.elements) {
            let (own, text) = our_cast(nth(array.elements, index))?;
            let text = match pg_sys::exprType(text) {
                pg_sys::TEXTOID => text,
                pg_sys::VARCHAROID => relabelled(text, pg_sys::TEXTOID),
                _ => return None,
            };
            function = Some(own);
            texts = pg_sys::lappend(texts, text.cast());
        }
        let function = function?;
        let new = pg_sys::copyObjectImpl((&raw const *array).cast()).cast::<pg_sys::ArrayExpr>();
        (*new).array_typeid = pg_sys::TEXTARRAYOID;
        (*new).element_typeid = pg_sys::TEXTOID;
        (*new).array_collid = pg_sys::DEFAULT_COLLATION_OID;
        (*new).elements = texts;
        Some((function, new.cast()))
    }
}

/// The function and the argument of our cast to `encrypted_text`.
///
/// # Safety
/// An expression of a query.
unsafe fn our_cast(node: *mut pg_sys::Node) -> Option<(pg_sys::Oid, *mut pg_sys::Node)> {
    // SAFETY: as promised by the caller; the node's tag says what it is.
    unsafe {
        if node.is_null() || !pgrx::is_a(node, pg_sys::NodeTag::T_FuncExpr) {
            return None;
        }
        let call = &*node.cast::<pg_sys::FuncExpr>();
        let argument = nth(call.args, 0);
        let is_ours = !argument.is_null()
            && type_lookup::is_of_extension(pg_sys::ProcedureRelationId, call.funcid)
            && has_name(pg_sys::get_func_name(call.funcid), c"encrypted_text");
        is_ours.then_some((call.funcid, argument))
    }
}

/// # Safety
/// `value` is an expression whose values may be taken for this type.
unsafe fn relabelled(value: *mut pg_sys::Node, type_oid: pg_sys::Oid) -> *mut pg_sys::Node {
    let form = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
    // SAFETY: as promised by the caller. The types of our operands have no collation.
    unsafe {
        let collation = pg_sys::get_typcollation(type_oid);
        pg_sys::makeRelabelType(value.cast(), type_oid, -1, collation, form).cast()
    }
}
