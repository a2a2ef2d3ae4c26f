//! Planner support for `=` and `<>`: a constant text is sealed when the statement is planned. So it is opened only once, and
//! EXPLAIN, including that of auto_explain, shows ciphertext.

use super::with_text::{constant, may_seal, operator_of, seal_unsearchable};
use crate::datatype::type_lookup;
use crate::datum::{Node, simplify_request};
use crate::error::{Error, SqlResult};
use crate::nodes::{has_name, length, nth};
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

/// Rewrites `value = 'constant'::text` to the operator of this name between two encrypted values, and
/// `value = text::encrypted_text`, which would encrypt the text for each row, to the operator with text.
fn simplify(request: Internal, operator: &CStr) -> Result<Node, Error> {
    // SAFETY: PostgreSQL passes a support request, which holds the call if it asks to simplify one.
    unsafe {
        let Some(call) = call_to_simplify(&request, 2)? else { return Ok(Node::NONE) };
        let mut sides = [Side::of(call, 0), Side::of(call, 1)];
        let Some(encrypted_type) =
            sides.iter().map(|side| side.type_oid).find(|side| *side != pg_sys::TEXTOID)
        else {
            return Ok(Node::NONE);
        };
        for side in &mut sides {
            side.look_through_cast();
        }
        // Two casts from text never become a comparison of texts.
        let Some(place) = sides.iter().rposition(|side| side.type_oid == pg_sys::TEXTOID) else {
            return Ok(Node::NONE);
        };
        let is_changed = match constant_text(sides[place].node) {
            Some(text) if may_seal(call.funcid) => {
                let sealed = seal_unsearchable(text)?.datum();
                sides[place] = Side {
                    node: constant(encrypted_type, sealed).cast(),
                    type_oid: encrypted_type,
                    is_cast: true,
                };
                true
            }
            _ => sides[place].is_cast,
        };
        let operator = operator_of(call.funcid, operator, [sides[0].type_oid, sides[1].type_oid]);
        if !is_changed || operator == pg_sys::InvalidOid {
            return Ok(Node::NONE);
        }
        let clause = pg_sys::make_opclause(
            operator,
            pg_sys::BOOLOID,
            false,
            sides[0].node.cast(),
            sides[1].node.cast(),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
        );
        (*clause.cast::<pg_sys::OpExpr>()).opfuncid = pg_sys::get_opcode(operator);
        Ok(Node::of(clause.cast()))
    }
}

/// The call to simplify, if the request asks for that, and the call is of a function of this extension with this many
/// arguments: any other function may be declared with our support function.
///
/// # Safety
/// The request is what PostgreSQL passed to a support function.
pub unsafe fn call_to_simplify(
    request: &Internal,
    arguments: i32,
) -> Result<Option<&pg_sys::FuncExpr>, Error> {
    // SAFETY: as promised by the caller: a support request, which holds the call if it asks to simplify one.
    unsafe {
        let Some(call) = simplify_request(request)?.and_then(|request| request.fcall.as_ref()) else {
            return Ok(None);
        };
        let is_ours = type_lookup::is_of_extension(pg_sys::ProcedureRelationId, call.funcid)
            && length(call.args) == arguments;
        Ok(is_ours.then_some(call))
    }
}

/// One side of a comparison.
struct Side {
    node: *mut pg_sys::Node,
    type_oid: pg_sys::Oid,
    /// Whether a cast from text was looked through.
    is_cast: bool,
}

impl Side {
    /// # Safety
    /// The call has that many arguments.
    unsafe fn of(call: &pg_sys::FuncExpr, index: i32) -> Self {
        // SAFETY: as promised by the caller.
        unsafe {
            let node = nth(call.args, index);
            Self { node, type_oid: pg_sys::getBaseType(pg_sys::exprType(node)), is_cast: false }
        }
    }

    /// Replaces a cast from text with the text itself.
    ///
    /// # Safety
    /// Inside a transaction.
    unsafe fn look_through_cast(&mut self) {
        // SAFETY: the node's tag says what it is; catalog look-ups.
        unsafe {
            if !pgrx::is_a(self.node, pg_sys::NodeTag::T_FuncExpr) {
                return;
            }
            let cast = &*self.node.cast::<pg_sys::FuncExpr>();
            // This may be any function that returns the type, even one without arguments.
            let text = nth(cast.args, 0);
            if text.is_null()
                || !type_lookup::is_of_extension(pg_sys::ProcedureRelationId, cast.funcid)
                || !has_name(pg_sys::get_func_name(cast.funcid), c"encrypted_text")
            {
                return;
            }
            let from = pg_sys::exprType(text);
            if from == pg_sys::VARCHAROID {
                *self = Self { node: as_text(text), type_oid: pg_sys::TEXTOID, is_cast: true };
            } else if from == pg_sys::TEXTOID {
                *self = Self { node: text, type_oid: pg_sys::TEXTOID, is_cast: true };
            }
        }
    }
}

/// An expression of type `varchar` as `text`.
///
/// # Safety
/// `expression` is of type `varchar`.
unsafe fn as_text(expression: *mut pg_sys::Node) -> *mut pg_sys::Node {
    let form = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
    // SAFETY: as promised by the caller. A constant becomes a constant.
    unsafe {
        let collation = pg_sys::exprCollation(expression);
        pg_sys::applyRelabelType(expression, pg_sys::TEXTOID, -1, collation, form, -1, false)
    }
}

/// The text of a non-null constant; `None` for anything else.
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
