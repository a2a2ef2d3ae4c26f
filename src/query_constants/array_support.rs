//! Planner support for operators between an array of values and an array of texts.
//!
//! - Constant texts are sealed, and the operator becomes PostgreSQL's own for two arrays of a type: what is planned then is
//!   what a literal of type `encrypted_text[]` gives, with the same indexes, and EXPLAIN shows ciphertext.
//! - Texts that are known only when the statement runs, as in a generic plan or a join, are sealed for a look-up in an index. Without an
//!   index they are compared as they are.

use super::eq_support::call_to_simplify;
use super::with_text::{constant, may_seal, operator_of, seal_unsearchable};
use crate::datatype::{nested, type_lookup};
use crate::datum::{Node, simplify_request};
use crate::error::{Error, SqlResult};
use crate::nodes::{has_name, length, nth};
use crate::privilege::{self, find_function, find_type};
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::ffi::CStr;

/// In bytes: the longest array of sealed texts that is made for a plan, about a million elements. Longer arrays are left to
/// the comparison, which hashes texts as they are.
pub const MAX_SEALED_LEN: usize = 64 * 1024 * 1024;

/// The operators: the name of our function, the name of the operator, and PostgreSQL's own for arrays
/// (`pg_operator.dat`).
const OPERATORS: [(&CStr, &CStr, u32); 5] = [
    (c"encrypted_text_array_contains", c"@>", pg_sys::OID_ARRAY_CONTAINS_OP),
    (c"encrypted_text_array_contained", c"<@", pg_sys::OID_ARRAY_CONTAINED_OP),
    (c"encrypted_text_array_overlaps", c"&&", pg_sys::OID_ARRAY_OVERLAP_OP),
    (c"encrypted_text_array_eq", c"=", pg_sys::ARRAY_EQ_OP),
    (c"encrypted_text_array_ne", c"<>", ARRAY_NOT_EQUAL),
];

/// `<>` of arrays (`pg_operator.dat`).
const ARRAY_NOT_EQUAL: u32 = 1071;

/// `prism_crypt._encrypted_array(encrypted_text[])`, `prism_crypt._text_array(text[])`: the array itself.
#[pg_extern(sql = false)]
fn _array_cast(array: pgrx::AnyElement) -> pgrx::AnyElement {
    array
}

/// Support of these casts: the array itself, with another type.
#[pg_extern(sql = false)]
fn _array_cast_support(request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a support request; a call to simplify has one argument, and both types are arrays in memory. A
    // constant becomes a constant.
    unsafe {
        let Some(call) = call_to_simplify(&request, 1)? else { return Ok(Node::NONE) };
        let form = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
        let array = nth(call.args, 0);
        let cast =
            pg_sys::applyRelabelType(array, call.funcresulttype, -1, pg_sys::InvalidOid, form, -1, false);
        Ok(Node::of(cast))
    }
}

/// `encrypted_text_array_support(internal) → internal`
#[pg_extern(sql = false)]
fn encrypted_text_array_support(mut request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a support request, whose tag says what it is.
    unsafe {
        let node = request.get::<pg_sys::Node>().ok_or(Error::Internal("no request"))?;
        if node.type_ != pg_sys::NodeTag::T_SupportRequestIndexCondition {
            return Ok(simplify(&request)?);
        }
        let condition = request.get_mut::<pg_sys::SupportRequestIndexCondition>();
        Ok(index_condition(condition.ok_or(Error::Internal("no request"))?))
    }
}

/// `encrypted_text_wanted(text[]) → encrypted_text[]`: seals texts for a look-up. Finding is what they are for, so it needs that right.
#[pg_extern(sql = false)]
fn encrypted_text_wanted(fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<Node> {
    privilege::require_search(fcinfo)?;
    // SAFETY: a strict function that the install script declares for an array of texts.
    unsafe {
        let texts = (*fcinfo).args.as_ptr().read().value;
        let result = pg_sys::get_func_rettype(privilege::function_oid(fcinfo));
        let element = pg_sys::get_element_type(result);
        let sealed = nested::convert_array(texts, element, usize::MAX, &mut |text| seal_unsearchable(text))?;
        Ok(Node::of(sealed.ok_or(Error::OutOfMemory)?.cast_mut_ptr()))
    }
}

/// The operator of PostgreSQL that means the same as this function of ours does.
///
/// # Safety
/// Inside a transaction.
unsafe fn native(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up.
    let name = unsafe { pg_sys::get_func_name(function) };
    // SAFETY: null or a terminated string.
    let found = OPERATORS.iter().find(|(ours, ..)| unsafe { has_name(name, ours) });
    found.map(|(_, _, native)| pg_sys::Oid::from(*native))
}

/// One side of a comparison, without the cast to the type of our operator.
struct Side {
    node: *mut pg_sys::Node,
    /// The type of its elements.
    element: pg_sys::Oid,
}

impl Side {
    /// `None` if it is not an array, or one that another cast hides.
    ///
    /// # Safety
    /// `node` is an argument of one of our operators.
    unsafe fn of(node: *mut pg_sys::Node) -> Option<Self> {
        // SAFETY: as promised by the caller; the node's tag says what it is. A constant that our cast was applied to is an array, which
        // names the type of its elements.
        unsafe {
            if pgrx::is_a(node, pg_sys::NodeTag::T_Const) {
                let array = &*node.cast::<pg_sys::Const>();
                if array.constisnull {
                    return None;
                }
                let element = nested::Array::of(array.constvalue).ok()?.element_type();
                let (type_oid, none) = (pg_sys::get_array_type(element), pg_sys::InvalidOid);
                let copy = pg_sys::makeConst(type_oid, -1, none, -1, array.constvalue, false, false);
                return (type_oid != none).then_some(Self { node: copy.cast(), element });
            }
            let node = match (*node).type_ {
                pg_sys::NodeTag::T_RelabelType => (*node.cast::<pg_sys::RelabelType>()).arg.cast(),
                _ => node,
            };
            let element = pg_sys::get_base_element_type(pg_sys::exprType(node));
            (element != pg_sys::InvalidOid).then_some(Self { node, element })
        }
    }

    fn is_of_texts(&self) -> bool {
        matches!(self.element, pg_sys::TEXTOID | pg_sys::VARCHAROID)
    }

    fn is_of_values(&self) -> bool {
        type_lookup::is_encrypted_text(self.element)
    }

    /// The array, if it is a constant.
    fn constant(&self) -> Option<pg_sys::Datum> {
        // SAFETY: the node's tag says what it is; a constant null has become no side.
        unsafe {
            let is_constant = pgrx::is_a(self.node, pg_sys::NodeTag::T_Const);
            is_constant.then(|| (*self.node.cast::<pg_sys::Const>()).constvalue)
        }
    }
}

/// Seals constant texts in a statement. Stored expressions, such as those of an index, are not changed: their result would depend on the
/// session's keyset, and must not look as if it did not.
///
/// # Safety
/// The request is what PostgreSQL passed to a support function.
unsafe fn simplify(request: &Internal) -> Result<Node, Error> {
    // SAFETY: as promised by the caller: a call with two arguments.
    unsafe {
        if simplify_request(request)?.is_none_or(|request| request.root.is_null()) {
            return Ok(Node::NONE);
        }
        let Some(call) = call_to_simplify(request, 2)? else { return Ok(Node::NONE) };
        let Some(operator) = native(call.funcid) else { return Ok(Node::NONE) };
        let (Some(left), Some(right)) = (Side::of(nth(call.args, 0)), Side::of(nth(call.args, 1))) else {
            return Ok(Node::NONE);
        };
        let (values, texts) = if left.is_of_values() { (&left, &right) } else { (&right, &left) };
        let Some(array) = texts.constant().filter(|_| values.is_of_values() && texts.is_of_texts()) else {
            return Ok(Node::NONE);
        };
        if !may_seal(call.funcid) {
            return Ok(Node::NONE);
        }
        let Some(sealed) = sealed_array(array, values.element)? else { return Ok(Node::NONE) };
        let sealed = sealed.cast::<pg_sys::Node>();
        let clause = if left.is_of_values() {
            comparison(operator, left.node, sealed)
        } else {
            comparison(operator, sealed, right.node)
        };
        Ok(Node::of(clause))
    }
}

/// A constant of these texts, unless it would be too long.
///
/// # Safety
/// `texts` is an array of texts, and `element` the type `encrypted_text`.
pub unsafe fn sealed_array(
    texts: pg_sys::Datum,
    element: pg_sys::Oid,
) -> Result<Option<*mut pg_sys::Const>, Error> {
    // SAFETY: as promised by the caller.
    unsafe {
        let sealed =
            nested::convert_array(texts, element, MAX_SEALED_LEN, &mut |text| seal_unsearchable(text))?;
        Ok(sealed.map(|sealed| constant(pg_sys::get_array_type(element), sealed)))
    }
}

/// # Safety
/// An operator that returns `boolean`, and its arguments.
unsafe fn comparison(
    operator: pg_sys::Oid,
    left: *mut pg_sys::Node,
    right: *mut pg_sys::Node,
) -> *mut pg_sys::Node {
    let none = pg_sys::InvalidOid;
    // SAFETY: as promised by the caller.
    unsafe {
        let clause =
            pg_sys::make_opclause(operator, pg_sys::BOOLOID, false, left.cast(), right.cast(), none, none);
        (*clause.cast::<pg_sys::OpExpr>()).opfuncid = pg_sys::get_opcode(operator);
        clause.cast()
    }
}

/// The condition for an index on the array of values: PostgreSQL's own operator, with texts that are sealed when the index is searched.
///
/// # Safety
/// PostgreSQL's own request.
unsafe fn index_condition(request: &mut pg_sys::SupportRequestIndexCondition) -> Node {
    // SAFETY: as promised by the caller; the node's tag says what it is.
    unsafe {
        if !pgrx::is_a(request.node, pg_sys::NodeTag::T_OpExpr)
            || !type_lookup::is_of_extension(pg_sys::ProcedureRelationId, request.funcid)
        {
            return Node::NONE;
        }
        let arguments = (*request.node.cast::<pg_sys::OpExpr>()).args;
        if length(arguments) != 2 || !(0..2).contains(&request.indexarg) {
            return Node::NONE;
        }
        let Some(mut operator) = native(request.funcid) else { return Node::NONE };
        let sides =
            (Side::of(nth(arguments, request.indexarg)), Side::of(nth(arguments, 1 - request.indexarg)));
        let (Some(values), Some(texts)) = sides else { return Node::NONE };
        if request.indexarg == 1 {
            operator = pg_sys::get_commutator(operator);
        }
        if !values.is_of_values()
            || !texts.is_of_texts()
            || !pg_sys::op_in_opfamily(operator, request.opfamily)
            || !pg_sys::is_pseudo_constant_for_index(request.root, texts.node, request.index)
        {
            return Node::NONE;
        }
        let schema = pg_sys::get_func_namespace(request.funcid);
        let seal = find_function(schema, c"encrypted_text_wanted", &[pg_sys::TEXTARRAYOID]);
        if !type_lookup::is_of_extension(pg_sys::ProcedureRelationId, seal) {
            return Node::NONE;
        }
        let argument = pg_sys::ListCell { ptr_value: texts.node.cast() };
        let wanted = pg_sys::makeFuncExpr(
            seal,
            pg_sys::get_array_type(values.element),
            pg_sys::list_make1_impl(pg_sys::NodeTag::T_List, argument),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        );
        let clause = comparison(operator, values.node, wanted.cast());
        request.lossy = false;
        let clause = pg_sys::ListCell { ptr_value: clause.cast() };
        Node::of(pg_sys::list_make1_impl(pg_sys::NodeTag::T_List, clause).cast())
    }
}

/// PostgreSQL's own operator for two arrays that this is, if it is one that we have for texts, too.
#[inline]
pub fn is_for_arrays(operator: pg_sys::Oid) -> bool {
    OPERATORS.iter().any(|(.., native)| operator.to_u32() == *native)
}

/// Our operator for values and texts that means the same as this one of PostgreSQL; invalid if there is none.
///
/// # Safety
/// Inside a transaction; `function` is in the schema of the extension.
pub unsafe fn with_texts(function: pg_sys::Oid, native: pg_sys::Oid, is_text_left: bool) -> pg_sys::Oid {
    let Some((_, name, _)) = OPERATORS.iter().find(|(.., one)| native.to_u32() == *one) else {
        return pg_sys::InvalidOid;
    };
    // SAFETY: as promised by the caller.
    unsafe {
        let schema = pg_sys::get_func_namespace(function);
        let values = find_type(schema, c"encrypted_text_array");
        let texts = find_type(schema, c"encrypted_text_texts");
        let operands = if is_text_left { [texts, values] } else { [values, texts] };
        operator_of(function, name, operands)
    }
}
