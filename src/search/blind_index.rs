//! `blind_index`: a keyed hash for a separate column.

use crate::datatype::encoding;
use crate::datum::{Node, Payload, Text};
use crate::error::{Error, SqlResult};
use crate::keyring::search_tags;
use crate::nodes::nth;
use crate::privilege::{require_execute, require_search};
use crate::query_constants::{call_to_simplify, constant};
use crate::varlena::Varlena;
use pgrx::datum::{FromDatum, Internal};
use pgrx::prelude::*;

/// `blind_index(value text, context text, bits integer) → bytea`: the first bits of a keyed hash of value and context under
/// the index key of the session's keyset. A null value gives null. A null context means none; an empty one is a context.
#[pg_extern(sql = false)]
fn blind_index(
    value: Option<Text<'_>>,
    context: Option<Text<'_>>,
    bits: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<Vec<u8>>> {
    require_execute(fcinfo)?;
    Ok(index_of(value, context, bits)?)
}

fn index_of(
    value: Option<Text<'_>>,
    context: Option<Text<'_>>,
    bits: Option<i32>,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(value) = value else { return Ok(None) };
    let bits = bits.and_then(|bits| usize::try_from(bits).ok()).ok_or(Error::BlindIndexBits)?;
    let index = encoding::with_utf8(value.0.bytes(), |value| match context {
        None => search_tags::blind_index(value, None, bits),
        Some(context) => encoding::with_utf8(context.0.bytes(), |context| {
            search_tags::blind_index(value, Some(context), bits)
        }),
    })?;
    Ok(Some(index))
}

/// `blind_index_support(internal) → internal`: planner support. Constants are hashed once, so that EXPLAIN shows the result,
/// not the value. Only for a role with the right: EXECUTE is not checked for a constant.
#[pg_extern(sql = false)]
fn blind_index_support(request: Internal, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a support request; a call to simplify has three arguments.
    unsafe {
        let Some(call) = call_to_simplify(&request, 3)? else { return Ok(Node::NONE) };
        let arguments = call.args;
        let constant_at = |index| {
            let node = nth(arguments, index);
            pgrx::is_a(node, pg_sys::NodeTag::T_Const).then(|| &*node.cast::<pg_sys::Const>())
        };
        let (Some(value), Some(context), Some(bits)) = (constant_at(0), constant_at(1), constant_at(2))
        else {
            return Ok(Node::NONE);
        };
        if require_search(fcinfo).is_err() {
            return Ok(Node::NONE);
        }
        let text = |constant: &pg_sys::Const| {
            Payload::from_datum(constant.constvalue, constant.constisnull).map(Text)
        };
        let bits = i32::from_datum(bits.constvalue, bits.constisnull);
        let Some(index) = index_of(text(value), text(context), bits)? else { return Ok(Node::NONE) };
        Ok(Node::of(constant(pg_sys::BYTEAOID, Varlena::copy_of(&index)?.datum()).cast()))
    }
}
