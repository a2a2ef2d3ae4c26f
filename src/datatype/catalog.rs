//! Where the type is used: catalog look-ups.

use pgrx::pg_sys;
use std::collections::HashSet;

/// Whether a relation has a column whose values can hold the type, in any depth of arrays, composites, domains, ranges and
/// multiranges. Partitions have the columns of their table, so they are not looked at. Inside a transaction.
pub fn has_encrypted_column(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up inside a transaction.
    let extension = unsafe { pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true) };
    if extension == pg_sys::InvalidOid {
        return false;
    }
    // Not recursive, and each type once: types may be nested as deeply, and as often, as their owner likes.
    let (mut types, mut seen) = (Vec::new(), HashSet::new());
    add_columns(&mut types, relation);
    while let Some(one) = types.pop() {
        // What initdb made holds nothing of ours.
        if one.to_u32() < pg_sys::FirstNormalObjectId || !seen.insert(one) {
            continue;
        }
        pgrx::check_for_interrupts!();
        // SAFETY: syscache look-ups inside a transaction.
        unsafe {
            let base = pg_sys::getBaseType(one);
            if is_encrypted(base, extension) {
                return true;
            }
            if base != one {
                types.push(base);
            } else if pg_sys::type_is_rowtype(base) {
                add_columns(&mut types, pg_sys::get_typ_typrelid(base));
            } else {
                // Each is invalid where the type is of another kind.
                types.extend([
                    pg_sys::get_element_type(base),
                    pg_sys::get_range_subtype(base),
                    pg_sys::get_multirange_range(base),
                ]);
            }
        }
    }
    false
}

/// Adds the types of a relation's columns; those that were dropped have none.
fn add_columns(types: &mut Vec<pg_sys::Oid>, relation: pg_sys::Oid) {
    // SAFETY: syscache look-ups inside a transaction.
    unsafe {
        types.extend((1..=column_count(relation)).map(|number| pg_sys::get_atttype(relation, number)));
    }
}

/// The highest attribute number of a relation; 0 where there is no such relation.
///
/// # Safety
/// Inside a transaction.
unsafe fn column_count(relation: pg_sys::Oid) -> pg_sys::AttrNumber {
    // SAFETY: the tuple is a row of pg_class, and is released after it was read.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return 0;
        }
        let count = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relnatts;
        pg_sys::ReleaseSysCache(tuple);
        count
    }
}

/// Whether a type is `encrypted_text` itself. Inside a transaction.
pub fn is_encrypted_text(base: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        extension != pg_sys::InvalidOid && is_encrypted(base, extension)
    }
}

/// # Safety
/// Inside a transaction.
unsafe fn is_encrypted(base: pg_sys::Oid, extension: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups. Of the extension's types only this one is a base type that is not an array.
    unsafe {
        pg_sys::get_typtype(base) == pg_sys::TYPTYPE_BASE as std::ffi::c_char
            && pg_sys::get_element_type(base) == pg_sys::InvalidOid
            && is_type_of(base, extension)
    }
}

/// # Safety
/// Inside a transaction.
unsafe fn is_type_of(base: pg_sys::Oid, extension: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up; what initdb made belongs to no extension.
    unsafe {
        base.to_u32() >= pg_sys::FirstNormalObjectId
            && pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, base) == extension
    }
}

/// Whether an object, in the catalog with this oid, belongs to the extension. Inside a transaction.
pub fn is_of_extension(catalog: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups; what initdb made belongs to no extension.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && object.to_u32() >= pg_sys::FirstNormalObjectId
            && pg_sys::getExtensionOfObject(catalog, object) == extension
    }
}
