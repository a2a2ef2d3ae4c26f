//! The type `prism_crypt.key_rows`, which puts the wrapped keys at the beginning of a dump.
//!
//! `pg_dump` chooses the order of the tables' rows, but constraints that open values need the keys first. So there is a
//! view with a constant of this type. `pg_dump` writes a view before any rows, and calls the constant's output
//! function: the constant stores nothing, and its output is what the key tables hold at that moment. Restoring the view
//! calls the input function, which loads `prism_crypt.carried_key`. Keys that are in no other table yet are looked up
//! there ([`super::table`]).

use super::own_table;
use crate::datum::CStringResult;
use crate::error::{Error, SqlResult};
use crate::identity::Identity;
use pgrx::prelude::*;
use std::ffi::CStr;

const ROWS: &str = "
    SELECT pg_catalog.json_agg(r ORDER BY r.version, r.keyset, r.generation)::pg_catalog.text
    FROM (SELECT k.version, k.keyset, NULL::pg_catalog.int4 AS generation, k.state,
                 pg_catalog.encode(k.wrapped, 'hex') AS wrapped, k.master_fingerprint
          FROM prism_crypt.data_key AS k
          UNION ALL
          SELECT NULL, i.keyset, i.generation, i.state, pg_catalog.encode(i.wrapped, 'hex'), i.master_fingerprint
          FROM prism_crypt.index_key AS i) AS r";
const LOAD: &str = "
    INSERT INTO prism_crypt.carried_key (version, keyset, generation, state, wrapped, master_fingerprint)
    SELECT r.version, r.keyset, r.generation, r.state, pg_catalog.decode(r.wrapped, 'hex'), r.master_fingerprint
    FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS r (
      version pg_catalog.int4, keyset pg_catalog.text, generation pg_catalog.int4, state pg_catalog.text,
      wrapped pg_catalog.text, master_fingerprint pg_catalog.text)
    ON CONFLICT DO NOTHING";

/// `prism_crypt._key_rows_in(cstring) → prism_crypt.key_rows`: loads the keys, if the role may insert them anyway.
#[pg_extern(sql = false)]
fn _key_rows_in(text: &CStr) -> SqlResult<i32> {
    // SAFETY: reads a global that is set when the server starts. pg_upgrade copies the tables themselves.
    let is_upgrade = unsafe { pg_sys::IsBinaryUpgrade };
    if !text.is_empty() && !is_upgrade && may(c"carried_key", pg_sys::ACL_INSERT) {
        let text = text.to_str().map_err(|_| Error::Internal("keys that are not text"))?;
        Spi::run_with_args(LOAD, &[text.into()]).map_err(|_| Error::Internal("keys can't be loaded"))?;
        super::invalidation::tell_sessions();
    }
    Ok(0)
}

/// `prism_crypt._key_rows_out(prism_crypt.key_rows) → cstring`: the wrapped keys, for roles that may read them anyway.
#[pg_extern(sql = false)]
fn _key_rows_out(_rows: i32) -> SqlResult<CStringResult> {
    // SAFETY: only checks a pointer.
    let can_query = unsafe { pg_sys::ActiveSnapshotSet() };
    let rows = if can_query && may(c"data_key", pg_sys::ACL_SELECT) && may(c"index_key", pg_sys::ACL_SELECT) {
        Spi::get_one::<String>(ROWS).map_err(|_| Error::Internal("keys can't be read"))?
    } else {
        None
    };
    let rows = rows.unwrap_or_default();
    Ok(CStringResult::write(rows.len(), |out| {
        out.copy_from_slice(rows.as_bytes());
        Ok(rows.len())
    })?)
}

/// Whether the current role has a privilege on a table of ours. A lent role doesn't count, as inside a SECURITY DEFINER
/// function that takes a value of any type: dumps and restores are statements of their own.
fn may(table: &CStr, right: u32) -> bool {
    let identity = Identity::current();
    !identity.is_lent()
        && own_table::find(table).is_some_and(|table| {
            // SAFETY: catalog look-ups inside a transaction.
            let result =
                unsafe { pg_sys::pg_class_aclcheck(table, identity.role, pg_sys::AclMode::from(right)) };
            result == pg_sys::AclResult::ACLCHECK_OK
        })
}
