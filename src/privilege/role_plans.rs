//! Plans that hold for one role. Where a function does not ask for EXECUTE itself, PostgreSQL must ask each time that it is
//! called. It does, but for what PL/pgSQL calls simple expressions: these it makes ready once in a transaction, asks then, and
//! computes them for whoever comes later. A plan that depends on the role is never that simple.

use crate::datum::{Node, simplify_request};
use crate::error::SqlResult;
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// `prism_crypt._role_support(internal) → internal`: planner support of what is not everybody's to call: its plans depend on the
/// role. The call stays as it is.
#[pg_extern(sql = false)]
fn role_support(request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a node that says what is asked for. In this case it has the planner's state, or null where an
    // expression is simplified without a plan.
    unsafe {
        if let Some(planner) = simplify_request(&request)?.and_then(|request| request.root.as_ref()) {
            (*planner.glob).dependsOnRole = true;
        }
    }
    Ok(Node::NONE)
}
