//! Planner support of the operators between `encrypted_text` and `text`: a constant text is sealed when the statement is
//! planned. So it is opened once, and EXPLAIN, also that of auto_explain, shows ciphertext.

use crate::datatype::datum::Node;
use crate::datatype::text_io::seal_unsearchable;
use crate::error::{Error, SqlResult};
use crate::settings;
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::ffi::CStr;

/// `encrypted_text_eq_support(internal) → internal`
#[pg_extern(sql = false)]
fn encrypted_text_eq_support(request: Internal) -> SqlResult<Node> {
    Ok(simplify(request, c"=")?)
}

/// `encrypted_text_ne_support(internal) → internal`
#[pg_extern(sql = false)]
fn encrypted_text_ne_support(request: Internal) -> SqlResult<Node> {
    Ok(simplify(request, c"<>")?)
}

/// Rewrites `value = 'constant'::text` to the operator of this name between two encrypted values.
fn simplify(mut request: Internal, operator: &CStr) -> Result<Node, Error> {
    // SAFETY: PostgreSQL passes a node that says what is asked for, and in this case what it calls.
    unsafe {
        let node = request.get_mut::<pg_sys::Node>().ok_or(Error::Internal("no request"))?;
        if node.type_ != pg_sys::NodeTag::T_SupportRequestSimplify {
            return Ok(Node::NONE);
        }
        let request = &*std::ptr::from_mut(node).cast::<pg_sys::SupportRequestSimplify>();
        let call = &*request.fcall;
        let (mut left, mut right) = (argument(call, 0), argument(call, 1));
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        pg_sys::get_func_signature(call.funcid, &mut types, &mut count);
        if count != 2 {
            return Ok(Node::NONE);
        }
        let types = [*types, *types.add(1)];
        let (text, encrypted_type) = match types {
            [pg_sys::TEXTOID, encrypted_type] => (&mut left, encrypted_type),
            [encrypted_type, pg_sys::TEXTOID] => (&mut right, encrypted_type),
            _ => return Ok(Node::NONE),
        };
        let Some(constant) = constant_text(*text) else { return Ok(Node::NONE) };
        let operator = operator_of(call.funcid, operator, encrypted_type);
        if operator == pg_sys::InvalidOid {
            return Ok(Node::NONE);
        }
        settings::note_constant();
        let sealed = seal_unsearchable(constant)?.datum();
        *text = pg_sys::makeConst(encrypted_type, -1, pg_sys::InvalidOid, -1, sealed, false, false).cast();
        let clause = pg_sys::make_opclause(
            operator,
            pg_sys::BOOLOID,
            false,
            left.cast(),
            right.cast(),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
        );
        (*clause.cast::<pg_sys::OpExpr>()).opfuncid = pg_sys::get_opcode(operator);
        Ok(Node::of(clause.cast()))
    }
}

/// # Safety
/// The call has arguments.
unsafe fn argument(call: &pg_sys::FuncExpr, index: i32) -> *mut pg_sys::Node {
    // SAFETY: as promised by the caller; null where there are fewer.
    unsafe { pg_sys::list_nth(call.args, index).cast() }
}

/// The text of a constant of that type; `None` for anything else.
///
/// # Safety
/// `node` is null or a node.
unsafe fn constant_text(node: *mut pg_sys::Node) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller.
    unsafe {
        if node.is_null() || !pgrx::is_a(node, pg_sys::NodeTag::T_Const) {
            return None;
        }
        let constant = &*node.cast::<pg_sys::Const>();
        (!constant.constisnull).then_some(constant.constvalue)
    }
}

/// The operator of this name in the schema of a function, between two values of a type.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn operator_of(function: pg_sys::Oid, name: &CStr, operand: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: the keys are of the types that this cache has: name, oid, oid, oid.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::OPERNAMENSP as i32,
            pg_sys::Anum_pg_operator_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(operand),
            pg_sys::Datum::from(operand),
            pg_sys::Datum::from(pg_sys::get_func_namespace(function)),
        )
    }
}
