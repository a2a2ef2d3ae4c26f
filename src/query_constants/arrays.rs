//! Constant arrays of text that values are compared with.

use super::array_casts::cast_texts;
use super::array_support::MAX_SEALED_LEN;
use super::evaluation::known;
use super::with_text::{WithText, operator_of, seal_unsearchable, with_constant};
use crate::datatype::{nested, type_lookup};
use crate::error::Error;
use crate::nodes::nth;
use pgrx::PgMemoryContexts;
use pgrx::prelude::*;
use std::ffi::CStr;

/// Turns `encrypted_text = ANY (text[])` into `encrypted_text = ANY (encrypted_text[])`, if the array is known.
///
/// # Safety
/// The parameters are null or what PostgreSQL plans with.
pub unsafe fn seal_array(
    comparison: &mut pg_sys::ScalarArrayOpExpr,
    params: pg_sys::ParamListInfo,
) -> Result<(), Error> {
    // SAFETY: the nodes are those of the query; the comparison has two arguments.
    unsafe {
        look_through_cast(comparison);
        let Some(operator) = WithText::of(comparison.opno) else { return Ok(()) };
        if operator.is_text_left {
            return seal_value(comparison, &operator, params);
        }
        let array_type = pg_sys::get_array_type(operator.encrypted);
        if array_type == pg_sys::InvalidOid {
            return Ok(());
        }
        // A computed array may be large and is not needed afterwards. If an error jumps over this while a text is sealed, the
        // memory is freed with its parent context.
        let mut memory = PgMemoryContexts::new("prism_crypt array");
        let array = memory.switch_to(|_| known(nth(comparison.args, 1), pg_sys::TEXTARRAYOID, params));
        let Some(array) = array else { return Ok(()) };
        let mut seal = |text| seal_unsearchable(text);
        let sealed = nested::convert_array(array, operator.encrypted, MAX_SEALED_LEN, &mut seal)?;
        let Some(sealed) = sealed else { return Ok(()) };
        replace(comparison, 1, array_type, sealed, &operator);
    }
    Ok(())
}

/// Replaces an argument with its sealed constant, and the operator with the one between encrypted values.
///
/// # Safety
/// The comparison has two arguments; `value` is of type `type_oid`.
unsafe fn replace(
    comparison: &mut pg_sys::ScalarArrayOpExpr,
    place: i32,
    type_oid: pg_sys::Oid,
    value: pg_sys::Datum,
    operator: &WithText,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        comparison.args = with_constant(comparison.args, place, type_oid, value);
        comparison.opno = operator.sealed;
        comparison.opfuncid = pg_sys::get_opcode(operator.sealed);
        comparison.inputcollid = pg_sys::InvalidOid;
    }
}

/// Turns `text = ANY (encrypted_text[])` into `encrypted_text = ANY (encrypted_text[])`, if the text is known.
///
/// # Safety
/// As [`seal_array`].
unsafe fn seal_value(
    comparison: &mut pg_sys::ScalarArrayOpExpr,
    operator: &WithText,
    params: pg_sys::ParamListInfo,
) -> Result<(), Error> {
    // SAFETY: as promised by the caller.
    unsafe {
        let text = known(nth(comparison.args, 0), pg_sys::TEXTOID, params);
        let Some(text) = text else { return Ok(()) };
        let sealed = seal_unsearchable(text)?.datum();
        replace(comparison, 0, operator.encrypted, sealed, operator);
    }
    Ok(())
}

/// Turns `encrypted_text = ANY (text[]::encrypted_text[])`, which would encrypt the array for each row, into
/// `encrypted_text = ANY (text[])`.
///
/// # Safety
/// The comparison has two arguments.
unsafe fn look_through_cast(comparison: &mut pg_sys::ScalarArrayOpExpr) {
    // SAFETY: as promised by the caller; the node's tag says what it is; catalog look-ups.
    unsafe {
        let (value, cast) = (nth(comparison.args, 0), nth(comparison.args, 1));
        if comparison.opno.to_u32() < pg_sys::FirstNormalObjectId {
            return;
        }
        let Some((_, texts)) = cast_texts(cast) else { return };
        let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::op_input_types(comparison.opno, &mut left, &mut right);
        let name = pg_sys::get_opname(comparison.opno);
        if left != right
            || name.is_null()
            || !type_lookup::is_encrypted_text(left)
            || !type_lookup::is_of_extension(pg_sys::OperatorRelationId, comparison.opno)
        {
            return;
        }
        let name = CStr::from_ptr(name);
        let operator = operator_of(pg_sys::get_opcode(comparison.opno), name, [left, pg_sys::TEXTOID]);
        if operator == pg_sys::InvalidOid {
            return;
        }
        comparison.args = pg_sys::list_make2_impl(
            pg_sys::NodeTag::T_List,
            pg_sys::ListCell { ptr_value: value.cast() },
            pg_sys::ListCell { ptr_value: texts.cast() },
        );
        comparison.opno = operator;
        comparison.opfuncid = pg_sys::get_opcode(operator);
    }
}
