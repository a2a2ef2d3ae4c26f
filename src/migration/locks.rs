//! Locks that SQL has no statement for: `LOCK TABLE` of a view locks the tables that it reads, too, in an order that readers of another
//! view don't keep.

use crate::error::SqlResult;
use pgrx::prelude::*;

/// `prism_crypt._lock_relations(relations regclass[], mode integer)`: locks tables and views, in this order and nothing else. `mode` is
/// PostgreSQL's number of the lock. Only the owner of a relation may. Relations that are gone are left out.
#[pg_extern(sql = false)]
fn _lock_relations(relations: Vec<Option<pg_sys::Oid>>, mode: i32) -> SqlResult<()> {
    let strongest = pg_sys::AccessExclusiveLock.cast_signed();
    for relation in relations.into_iter().flatten() {
        // SAFETY: inside a transaction, which keeps the lock to its end.
        unsafe {
            if !is_there(relation) {
                continue;
            }
            require_owner(relation);
            pg_sys::LockRelationOid(relation, mode.clamp(1, strongest));
            // It may have been dropped, or given away, while the lock was waited for.
            if is_there(relation) {
                require_owner(relation);
            }
        }
    }
    Ok(())
}

/// # Safety
/// Inside a transaction.
unsafe fn is_there(relation: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_rel_relkind(relation) != 0 }
}

/// Raises PostgreSQL's own error, also if there is no such relation.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn require_owner(relation: pg_sys::Oid) {
    // SAFETY: catalog look-ups.
    unsafe {
        let role = pg_sys::GetUserId();
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let owns = pg_sys::pg_class_ownercheck(relation, role);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let owns = pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, role);
        if !owns {
            let name = pg_sys::get_rel_name(relation);
            let kind = pg_sys::get_relkind_objtype(pg_sys::get_rel_relkind(relation));
            pg_sys::aclcheck_error(pg_sys::AclResult::ACLCHECK_NOT_OWNER, kind, name);
        }
    }
}
