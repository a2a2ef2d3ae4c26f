//! The key versions in one value.

use crate::datatype::nested;
use crate::datum::Front;
use crate::error::{Error, SqlResult};
use pgrx::AnyElement;
use pgrx::prelude::*;
use prism_envelope::KeyVersion;

/// A key version as SQL has it.
pub fn number(version: KeyVersion) -> i32 {
    version.get().cast_signed()
}

/// `prism_crypt._key_versions(value anyelement) → integer[]`: of each `encrypted_text` in a value, in its order; null for one
/// that is damaged.
#[pg_extern(sql = false)]
fn _key_versions(value: AnyElement) -> SqlResult<Vec<Option<i32>>> {
    let mut versions = Vec::new();
    visit(&value, |leaf| {
        if !leaf.is_bytes() {
            versions.push(leaf.key_version().ok().map(number));
        }
    })?;
    Ok(versions)
}

/// `prism_crypt._key_version_or_null(value encrypted_text) → integer`: null for one that is damaged.
/// `prism_crypt._envelope_version(value bytea) → integer`: null for what is no envelope.
#[pg_extern(sql = false)]
fn _envelope_version(front: Front<'_>) -> Option<i32> {
    front.envelope_version().ok().map(number)
}

fn visit(value: &AnyElement, mut see: impl FnMut(&nested::Leaf<'_>)) -> Result<(), Error> {
    if value.oid() == pg_sys::InvalidOid {
        return Err(Error::Internal("the type of the argument is not known"));
    }
    let mut see = |leaf: &nested::Leaf<'_>| {
        see(leaf);
        Ok(())
    };
    // SAFETY: PostgreSQL passes a value of the type that the call expression says; the function is STRICT.
    unsafe { nested::visit(value.datum(), value.oid(), &mut see) }
}
