//! `=` and `<>` mean the same whatever the `search_path`. Where the extension's schema is not on it, PostgreSQL finds the operators of
//! text instead, through the implicit cast, which decrypts: without an index, and without regard to keysets. A statement gets ours back
//! when it was analysed and, for what comes from rules and policies, before it is planned. An explicit cast is left alone: whoever writes
//! one means text.

use crate::datatype::type_lookup;
use crate::nodes::{length, nth};
use crate::query_constants::operator_of;
use pgrx::prelude::*;
use std::ffi::CStr;

/// `<>` of text (`pg_operator.dat`).
const TEXT_NOT_EQUAL: u32 = 531;

/// What replaces an argument that is decrypted, or is text already.
struct Side {
    node: *mut pg_sys::Node,
    type_oid: pg_sys::Oid,
    /// The cast that decrypts; invalid if it is text.
    cast: pg_sys::Oid,
}

/// Puts our operator in the place of that of text, if this node of a query compares a value through the implicit cast. Most nodes take no
/// more than a look at their tag. Not guarded, and without anything to drop: errors pass through as PostgreSQL raised them.
///
/// # Safety
/// A node of an analysed query that may be changed.
#[inline]
pub unsafe fn restore(node: *mut pg_sys::Node) {
    // SAFETY: the node's tag says what it is.
    unsafe {
        let operator = match (*node).type_ {
            pg_sys::NodeTag::T_OpExpr | pg_sys::NodeTag::T_DistinctExpr => {
                (*node.cast::<pg_sys::OpExpr>()).opno
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => (*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno,
            _ => return,
        };
        if matches!(operator.to_u32(), pg_sys::TextEqualOperator | TEXT_NOT_EQUAL) {
            replace(node, operator);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn replace(node: *mut pg_sys::Node, operator: pg_sys::Oid) {
    let name = if operator.to_u32() == TEXT_NOT_EQUAL { c"<>" } else { c"=" };
    // SAFETY: `restore` passes only these kinds of nodes, and the tag says which one it is. Both have two arguments.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_ScalarArrayOpExpr {
            let one = &mut *node.cast::<pg_sys::ScalarArrayOpExpr>();
            let sides = [side_of(nth(one.args, 0)), array_of(nth(one.args, 1))];
            put(&sides, name, one.args, [&mut one.opno, &mut one.opfuncid, &mut one.inputcollid]);
        } else {
            let one = &mut *node.cast::<pg_sys::OpExpr>();
            let sides = [side_of(nth(one.args, 0)), side_of(nth(one.args, 1))];
            put(&sides, name, one.args, [&mut one.opno, &mut one.opfuncid, &mut one.inputcollid]);
        }
    }
}

/// # Safety
/// An argument of a comparison of texts.
unsafe fn side_of(node: *mut pg_sys::Node) -> Side {
    // SAFETY: as promised by the caller; the node's tag says what it is.
    unsafe {
        if pgrx::is_a(node, pg_sys::NodeTag::T_FuncExpr) {
            let call = &*node.cast::<pg_sys::FuncExpr>();
            if call.funcformat == pg_sys::CoercionForm::COERCE_IMPLICIT_CAST && length(call.args) == 1 {
                let value = nth(call.args, 0);
                let type_oid = pg_sys::getBaseType(pg_sys::exprType(value));
                if decrypts(call.funcid, type_oid) {
                    return Side { node: value, type_oid, cast: call.funcid };
                }
            }
        }
        Side { node, type_oid: pg_sys::TEXTOID, cast: pg_sys::InvalidOid }
    }
}

/// The same for an array, which is cast element by element.
///
/// # Safety
/// An array of texts that one is compared with.
unsafe fn array_of(node: *mut pg_sys::Node) -> Side {
    // SAFETY: as promised by the caller; the node's tag says what it is.
    unsafe {
        if pgrx::is_a(node, pg_sys::NodeTag::T_ArrayCoerceExpr) {
            let cast = &*node.cast::<pg_sys::ArrayCoerceExpr>();
            if cast.coerceformat == pg_sys::CoercionForm::COERCE_IMPLICIT_CAST
                && pgrx::is_a(cast.elemexpr.cast(), pg_sys::NodeTag::T_FuncExpr)
            {
                let function = (*cast.elemexpr.cast::<pg_sys::FuncExpr>()).funcid;
                let element = pg_sys::get_base_element_type(pg_sys::exprType(cast.arg.cast()));
                let type_oid = pg_sys::getBaseType(element);
                if decrypts(function, type_oid) {
                    return Side { node: cast.arg.cast(), type_oid, cast: function };
                }
            }
        }
        Side { node, type_oid: pg_sys::TEXTOID, cast: pg_sys::InvalidOid }
    }
}

/// Whether a function is our cast from this type to text.
///
/// # Safety
/// Inside a transaction.
unsafe fn decrypts(function: pg_sys::Oid, type_oid: pg_sys::Oid) -> bool {
    function.to_u32() >= pg_sys::FirstNormalObjectId
        && type_oid.to_u32() >= pg_sys::FirstNormalObjectId
        && type_lookup::is_encrypted_text(type_oid)
        && type_lookup::is_of_extension(pg_sys::ProcedureRelationId, function)
        // SAFETY: a catalog look-up.
        && unsafe { pg_sys::get_func_rettype(function) } == pg_sys::TEXTOID
}

/// Our operator for these sides, if one of them is a value.
///
/// # Safety
/// Inside a transaction.
unsafe fn ours(sides: &[Side; 2], name: &CStr) -> Option<pg_sys::Oid> {
    let cast = sides.iter().map(|side| side.cast).find(|cast| *cast != pg_sys::InvalidOid)?;
    // SAFETY: as promised by the caller. The cast is in the schema of the operators.
    let operator = unsafe { operator_of(cast, name, [sides[0].type_oid, sides[1].type_oid]) };
    type_lookup::is_of_extension(pg_sys::OperatorRelationId, operator).then_some(operator)
}

/// Puts our operator and these sides into a comparison, if one side is a value.
///
/// # Safety
/// The comparison may be changed, and has two arguments.
unsafe fn put(
    sides: &[Side; 2],
    name: &CStr,
    arguments: *mut pg_sys::List,
    [operator, function, collation]: [&mut pg_sys::Oid; 3],
) {
    // SAFETY: as promised by the caller: the list has two cells.
    unsafe {
        let Some(ours) = ours(sides, name) else { return };
        *operator = ours;
        *function = pg_sys::get_opcode(ours);
        *collation = pg_sys::InvalidOid;
        for (index, side) in sides.iter().enumerate() {
            (*(*arguments).elements.add(index)).ptr_value = side.node.cast();
        }
    }
}
