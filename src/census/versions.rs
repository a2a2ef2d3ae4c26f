//! The key versions in one value.

use crate::datatype::nested;
use crate::error::{Error, SqlResult};
use pgrx::AnyElement;
use pgrx::prelude::*;
use prism_envelope::KeyVersion;

/// A key version as an SQL `integer`.
pub fn number(version: KeyVersion) -> i32 {
    version.get().cast_signed()
}

/// `prism_crypt._key_versions(value anyelement) → integer[]`: the version of each `encrypted_text` in a value, in order; null for
/// a damaged one.
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

fn visit(value: &AnyElement, mut see: impl FnMut(&nested::Leaf<'_>)) -> Result<(), Error> {
    if value.oid() == pg_sys::InvalidOid {
        return Err(Error::Internal("the type of the argument is not known"));
    }
    let mut see = |leaf: &nested::Leaf<'_>| {
        see(leaf);
        Ok(())
    };
    // SAFETY: PostgreSQL passes a value of the type that the call expression names; the function is STRICT.
    unsafe { nested::visit(value.datum(), value.oid(), &mut see) }
}
