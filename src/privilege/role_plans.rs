//! Plans that hold for one role. Where a function does not ask for EXECUTE itself, PostgreSQL must ask each time that it is
//! called. It does, but for what PL/pgSQL calls simple expressions: these it makes ready once in a transaction, asks then, and
//! computes them for whoever comes later. A plan that depends on the role is never that simple.

use crate::datum::Node;
use crate::error::{Error, SqlResult};
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// `prism_crypt._role_support(internal) → internal`: planner support of what is not everybody's to call: its plans depend on the
/// role. The call stays as it is.
#[pg_extern(sql = false)]
fn role_support(mut request: Internal) -> SqlResult<Node> {
    // SAFETY: PostgreSQL passes a node that says what is asked for. In this case it has the planner's state, or null where an
    // expression is simplified without a plan.
    unsafe {
        let request = request.get_mut::<pg_sys::Node>().ok_or(Error::Internal("no request"))?;
        if request.type_ == pg_sys::NodeTag::T_SupportRequestSimplify {
            let request = std::ptr::from_mut(request).cast::<pg_sys::SupportRequestSimplify>();
            if let Some(planner) = (*request).root.as_ref() {
                (*planner.glob).dependsOnRole = true;
            }
        }
    }
    Ok(Node::NONE)
}
