//! Catalog look-ups: the function behind each right, and who may execute it.

use super::Right;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The function whose EXECUTE privilege is the right; an invalid oid if there is none.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn function_of(right: Right) -> pg_sys::Oid {
    // SAFETY: catalog look-ups; types and schema of an output function come from the catalogs themselves.
    unsafe {
        match right {
            Right::Encrypt(function) => {
                let schema = pg_sys::get_func_namespace(function);
                find_function(schema, c"encrypt_field", &[pg_sys::TEXTOID; 4])
            }
            Right::Decrypt(output_function) => beside(output_function, c"decrypt_field"),
            Right::Mask(output_function) => beside(output_function, c"mask_field"),
            Right::Search(function) => find_blind_index(pg_sys::get_func_namespace(function)),
            Right::Load => find_function(administration(), c"load_envelope", &[pg_sys::TEXTOID]),
            Right::AdministerKeys => {
                find_function(administration(), c"rotate_key", &[pg_sys::TEXTOID, pg_sys::TEXTOID])
            }
            Right::Rotate => {
                let schema = extension_schema();
                find_function(schema, c"reencrypt_field", &[find_type(schema, c"encrypted_text")])
            }
        }
    }
}

/// The schema of the administrative functions; an invalid oid if there is none.
///
/// # Safety
/// Inside a transaction.
unsafe fn administration() -> pg_sys::Oid {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_namespace_oid(c"prism_crypt".as_ptr(), true) }
}

/// The function whose EXECUTE privilege is the right to search.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn find_blind_index(schema: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: as promised by the caller.
    unsafe { find_function(schema, c"blind_index", &[pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::INT4OID]) }
}

/// The output function of `encrypted_text`.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn find_output(schema: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: as promised by the caller.
    unsafe { find_function(schema, c"encrypted_text_out", &[find_type(schema, c"encrypted_text")]) }
}

/// The schema that the extension was created in; an invalid oid if there is none.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn extension_schema() -> pg_sys::Oid {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut schema = pg_sys::InvalidOid;
    // SAFETY: the usual scan of a catalog, a very small one; each row is used before the next is fetched.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        let catalog = pg_sys::table_open(pg_sys::ExtensionRelationId, lock);
        let (no_snapshot, no_keys) = (std::ptr::null_mut(), std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(catalog, pg_sys::InvalidOid, false, no_snapshot, 0, no_keys);
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let row = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_extension>();
            if row.oid == extension {
                schema = row.extnamespace;
                break;
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, lock);
    }
    schema
}

/// The function of this name beside an output function: in its schema, for its type and a context.
///
/// # Safety
/// Inside a transaction.
unsafe fn beside(output_function: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: catalog look-ups.
    unsafe {
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        pg_sys::get_func_signature(output_function, &mut types, &mut count);
        if count < 1 {
            return pg_sys::InvalidOid;
        }
        find_function(pg_sys::get_func_namespace(output_function), name, &[*types, pg_sys::TEXTOID])
    }
}

/// Not `LookupFuncName`, which checks USAGE on the schema: only the function counts here.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn find_function(schema: pg_sys::Oid, name: &CStr, types: &[pg_sys::Oid]) -> pg_sys::Oid {
    // SAFETY: the keys have the types of this cache: name, oidvector, oid.
    unsafe {
        let types = pg_sys::buildoidvector(types.as_ptr(), types.len() as i32);
        let found = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(types),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
        );
        pg_sys::pfree(types.cast());
        found
    }
}

/// The type of this name in a schema; invalid if there is none.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn find_type(schema: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: the keys have the types of this cache: name, oid.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    }
}

/// Whether a role has the EXECUTE privilege on a function; false if the function does not exist.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    if function == pg_sys::InvalidOid {
        return false;
    }
    let mode = pg_sys::AclMode::from(pg_sys::ACL_EXECUTE);
    // SAFETY: a catalog look-up.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_proc_aclcheck(function, role, mode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, mode);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}
