//! Where the type is used: catalog look-ups.

use pgrx::pg_sys;

/// Whether a relation has a column of the type, of an array of it, or of a domain over it.
pub fn has_encrypted_column(relation: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups inside a transaction.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && (1..=column_count(relation)).any(|number| {
                let column_type = pg_sys::get_atttype(relation, number);
                column_type != pg_sys::InvalidOid && is_encrypted_type(column_type, extension)
            })
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

/// # Safety
/// Inside a transaction.
unsafe fn is_encrypted_type(column_type: pg_sys::Oid, extension: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups. `encrypted_text` is the extension's only base type.
    unsafe {
        let mut base = pg_sys::getBaseType(column_type);
        let element = pg_sys::get_element_type(base);
        if element != pg_sys::InvalidOid {
            base = pg_sys::getBaseType(element);
        }
        is_type_of(base, extension)
    }
}

/// Whether a type is `encrypted_text` itself. Inside a transaction.
pub fn is_encrypted_text(base: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups. Of the extension's types only this one is a base type that is not an array.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && pg_sys::get_typtype(base) == pg_sys::TYPTYPE_BASE as std::ffi::c_char
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
