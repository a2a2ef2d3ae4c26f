//! Constant arrays of text that values are compared with.

use super::constants::{WithText, known, with_constant};
use super::nodes::nth;
use super::simplify::operator_of;
use crate::datatype::catalog;
use crate::datatype::text_io::seal_unsearchable;
use crate::error::Error;
use pgrx::prelude::*;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;

/// Turns `encrypted_text = ANY (text[])` into `encrypted_text = ANY (encrypted_text[])`, where the array is known.
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
        let array = known(nth(comparison.args, 1), pg_sys::TEXTARRAYOID, params);
        let array_type = pg_sys::get_array_type(operator.encrypted);
        let Some(array) = array.filter(|_| array_type != pg_sys::InvalidOid) else { return Ok(()) };
        let sealed = sealed_array(array, operator.encrypted)?;
        replace(comparison, 1, array_type, sealed, &operator);
    }
    Ok(())
}

/// Replaces an argument by its sealed constant, and the operator by that between encrypted values.
///
/// # Safety
/// The comparison has two arguments; the value is of the type.
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

/// Turns `text = ANY (encrypted_text[])` into `encrypted_text = ANY (encrypted_text[])`, where the text is known.
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
        if comparison.opno.to_u32() < pg_sys::FirstNormalObjectId
            || !pgrx::is_a(cast, pg_sys::NodeTag::T_ArrayCoerceExpr)
        {
            return;
        }
        let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::op_input_types(comparison.opno, &mut left, &mut right);
        let coercion = &*cast.cast::<pg_sys::ArrayCoerceExpr>();
        let texts = coercion.arg;
        let name = pg_sys::get_opname(comparison.opno);
        if left != right || name.is_null() || !catalog::is_encrypted_text(left) {
            return;
        }
        let name = CStr::from_ptr(name);
        let texts: *mut pg_sys::Node = match pg_sys::exprType(texts.cast()) {
            pg_sys::TEXTARRAYOID => texts.cast(),
            pg_sys::VARCHARARRAYOID => pg_sys::makeRelabelType(
                texts,
                pg_sys::TEXTARRAYOID,
                -1,
                pg_sys::exprCollation(texts.cast()),
                pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
            )
            .cast(),
            _ => return,
        };
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

/// The same array with every text sealed.
///
/// # Safety
/// `array` is a `text[]`, and `element_type` is `encrypted_text`.
unsafe fn sealed_array(array: pg_sys::Datum, element_type: pg_sys::Oid) -> Result<pg_sys::Datum, Error> {
    // SAFETY: PostgreSQL allocates what it takes apart, elements and nulls in equal number. Both types have variable length
    // and are aligned to integers.
    unsafe {
        let align = pg_sys::TYPALIGN_INT as c_char;
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut elements, mut nulls, mut count) = (null_mut(), null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            pg_sys::TEXTOID,
            -1,
            false,
            align,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        for index in 0..count.cast_unsigned() as usize {
            let (element, is_null) = (elements.add(index), *nulls.add(index));
            if !is_null {
                *element = seal_unsearchable(*element)?.datum();
            }
        }
        let dimensions = (*array).ndim;
        let sizes = array.cast::<u8>().add(size_of::<pg_sys::ArrayType>()).cast::<c_int>();
        let lower_bounds = sizes.add(dimensions.cast_unsigned() as usize);
        let sealed = pg_sys::construct_md_array(
            elements,
            nulls,
            dimensions,
            sizes,
            lower_bounds,
            element_type,
            -1,
            false,
            align,
        );
        Ok(pg_sys::Datum::from(sealed))
    }
}
