//! The order of unique indexes: that of the search tags, which reveals nothing about the plaintexts. There is no other order.

use super::compare::{are_comparable, is_analyzed, is_copy, last_tag, last_tags, tag_of_text};
use crate::datum::{Node, Stored, Text, simplify_request};
use crate::error::{Error, SqlResult};
use crate::privilege::require_search;
use pgrx::datum::Internal;
use pgrx::prelude::*;
use prism_envelope::SearchTag;

/// `encrypted_text_cmp(encrypted_text, encrypted_text) → integer`: -1, 0 or 1. A unique index compares whatever anybody writes
/// to its table. But opening a value for that requires the right to search, because the result would confirm a guess.
#[pg_extern(sql = false)]
fn encrypted_text_cmp(
    left: Stored<'_>,
    right: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<i32> {
    // SAFETY: PostgreSQL passes a valid call.
    if unsafe { is_ranking(fcinfo) } {
        return Err(Error::NoOrder.into());
    } else if is_copy(&left, &right) {
        return Ok(0);
    } else if is_analyzed(fcinfo) {
        // The parts of arrays and rows: any order will do in which the same tags are equal.
        return Ok(match (left.search_tag(), right.search_tag()) {
            (Some(left), Some(right)) if are_comparable(left, right) => number(&left, &right),
            _ => left.front().cmp(right.front()) as i32,
        });
    }
    if left.search_tag().is_none() || right.search_tag().is_none() {
        require_search(fcinfo)?;
    }
    let (left, right) = last_tags(&left, &right)?;
    Ok(number(&left, &right))
}

/// `encrypted_text_cmp(encrypted_text, text) → integer`
#[pg_extern(sql = false)]
fn encrypted_text_cmp_text(
    value: Stored<'_>,
    text: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<i32> {
    require_search(fcinfo)?;
    Ok(number(&last_tag(&value)?, &tag_of_text(text)?))
}

/// `encrypted_text_cmp(text, encrypted_text) → integer`
#[pg_extern(sql = false)]
fn text_cmp_encrypted_text(
    text: Text<'_>,
    value: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<i32> {
    require_search(fcinfo)?;
    Ok(number(&tag_of_text(text)?, &last_tag(&value)?))
}

/// `encrypted_text_cmp_text(text, text) → integer`: PostgreSQL sorts the texts of `= ANY (text[])` before it looks them up.
#[pg_extern(sql = false)]
fn text_cmp_text(left: Text<'_>, right: Text<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<i32> {
    require_search(fcinfo)?;
    Ok(number(&tag_of_text(left)?, &tag_of_text(right)?))
}

/// By the keyed hashes alone: the generation only says which index key made them.
#[inline]
pub fn number(left: &SearchTag, right: &SearchTag) -> i32 {
    left.hash().cmp(right.hash()) as i32
}

/// Whether GREATEST, LEAST or a comparison of rows calls: the check of statements does not see a CHECK constraint, for example. Sorts set
/// no expression, and indexes one of another kind.
///
/// # Safety
/// A call of a function that PostgreSQL looked up.
#[inline(always)]
pub unsafe fn is_ranking(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: as promised by the caller; the expression that calls is null or a node.
    unsafe {
        let function = (*fcinfo).flinfo;
        !function.is_null()
            && !(*function).fn_expr.is_null()
            && matches!(
                (*(*function).fn_expr).type_,
                pg_sys::NodeTag::T_MinMaxExpr | pg_sys::NodeTag::T_RowCompareExpr
            )
    }
}

/// `<`, `<=`, `>` and `>=`: errors that say what to write instead. Without them, the implicit cast to text would make these
/// compare plaintexts, without any index.
#[pg_extern(sql = false)]
fn encrypted_text_no_order() -> SqlResult<bool> {
    Err(Error::NoOrder.into())
}

/// Planner support for these: an error even if there is no row to compare.
#[pg_extern(sql = false)]
fn encrypted_text_no_order_support(request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a support request.
    if unsafe { simplify_request(&request) }?.is_some() {
        return Err(Error::NoOrder.into());
    }
    Ok(Node::NONE)
}
