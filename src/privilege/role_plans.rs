//! Plans for one role. If a function doesn't check EXECUTE itself, PostgreSQL must check it for each call. It does,
//! except for what PL/pgSQL calls simple expressions: it initializes them once per transaction, checks then, and
//! evaluates them for other roles later. An expression is not simple if its plan depends on the role.

use crate::datum::{Node, simplify_request};
use crate::error::SqlResult;
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// `prism_crypt._role_support(internal) → internal`: planner support for functions that not everybody may call. It
/// makes their plans depend on the role, and leaves the call as it is.
#[pg_extern(sql = false)]
fn role_support(request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a node that says what is requested. A request to simplify has the planner's state, or
    // null if an expression is simplified without a plan.
    unsafe {
        if let Some(planner) = simplify_request(&request)?.and_then(|request| request.root.as_ref()) {
            (*planner.glob).dependsOnRole = true;
        }
    }
    Ok(Node::NONE)
}
