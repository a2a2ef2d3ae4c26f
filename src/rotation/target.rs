//! What a rotation covers in a table.

use crate::datatype::nested;
use pgrx::prelude::*;

/// `prism_crypt._rotatable_kind(type oid) → text`: how values of a type are rotated: `plain`, `nested` (arrays,
/// composite types), or `bytes`, which are rotated only in a column that is named; null if they are not. Looks only at
/// the types that this type is made of.
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
