//! What of a table a rotation is about.

use crate::datatype::nested;
use pgrx::prelude::*;

/// `prism_crypt._rotatable_kind(type oid) → text`: how values of a type are rotated: `plain`, `nested` (arrays, composite
/// types) or, where they are named, `bytes`; null where they are not. Looks at what the type is made of, and so at no more
/// types than that.
#[pg_extern(sql = false)]
fn _rotatable_kind(type_oid: pg_sys::Oid) -> Option<&'static str> {
    let holds = nested::holds(type_oid);
    match (nested::is_leaf(type_oid), holds.encrypted, holds.bytes) {
        (true, true, _) => Some("plain"),
        (false, true, _) => Some("nested"),
        (true, false, true) => Some("bytes"),
        _ => None,
    }
}
