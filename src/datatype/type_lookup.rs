//! What the catalogs say about types, and which objects are the extension's. These look-ups lock nothing but catalogs, so no
//! lock on a table can block them.

use pgrx::pg_sys;
use std::ffi::c_int;

/// What a type is made of, one level deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Makeup {
    /// A domain over this type.
    Domain(pg_sys::Oid),
    /// Elements of this type.
    Array(pg_sys::Oid),
    /// Bounds of this type.
    Range(pg_sys::Oid),
    /// Ranges of this type.
    Multirange(pg_sys::Oid),
    /// A row of this relation; invalid for `record`.
    Row(pg_sys::Oid),
    /// Not made of other types.
    Whole,
}

impl Makeup {
    /// The makeup of a type; `Whole` if the type is gone. Needs a transaction.
    pub fn of(type_oid: pg_sys::Oid) -> Self {
        let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
        // SAFETY: the tuple is a row of pg_type, and is released after it was read. The other look-ups return an invalid OID
        // if they find nothing.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(type_oid));
            if tuple.is_null() {
                return Self::Whole;
            }
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>();
            let (kind, base) = (form.typtype as u8, form.typbasetype);
            let (relation, has_element) = (form.typrelid, form.typelem != pg_sys::InvalidOid);
            pg_sys::ReleaseSysCache(tuple);
            let part = match kind {
                pg_sys::TYPTYPE_COMPOSITE => return Self::Row(relation),
                pg_sys::TYPTYPE_PSEUDO if type_oid == pg_sys::RECORDOID => return Self::Row(relation),
                pg_sys::TYPTYPE_DOMAIN => Self::Domain(base),
                pg_sys::TYPTYPE_RANGE => Self::Range(pg_sys::get_range_subtype(type_oid)),
                pg_sys::TYPTYPE_MULTIRANGE => Self::Multirange(pg_sys::get_multirange_range(type_oid)),
                // Some types have elements but are not arrays.
                _ if has_element => Self::Array(pg_sys::get_element_type(type_oid)),
                _ => Self::Whole,
            };
            if part.part() == Some(pg_sys::InvalidOid) { Self::Whole } else { part }
        }
    }

    /// The type of its parts, if all have the same.
    pub fn part(self) -> Option<pg_sys::Oid> {
        match self {
            Self::Domain(part) | Self::Array(part) | Self::Range(part) | Self::Multirange(part) => Some(part),
            Self::Row(_) | Self::Whole => None,
        }
    }
}

unsafe extern "C-unwind" {
    // pgrx has no binding.
    fn find_all_inheritors(
        parent: pg_sys::Oid,
        lock: c_int,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// The relation that a statement names; invalid if it names none, or one that does not exist. Needs a transaction.
///
/// # Safety
/// `name` is null or comes from the parser.
pub unsafe fn named_relation(name: *const pg_sys::RangeVar) -> pg_sys::Oid {
    if name.is_null() {
        return pg_sys::InvalidOid;
    }
    let (no_lock, missing_ok) = (pg_sys::NoLock as pg_sys::LOCKMODE, pg_sys::RVROption::RVR_MISSING_OK);
    // SAFETY: as promised by the caller; there is no callback, so its argument may be null.
    unsafe { pg_sys::RangeVarGetRelidExtended(name, no_lock, missing_ok, None, std::ptr::null_mut()) }
}

/// A table and those that inherit from it, as a list of OIDs. The caller must hold nothing that needs dropping.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn with_heirs(table: pg_sys::Oid) -> *mut pg_sys::List {
    // SAFETY: looks the tables up without locking them.
    unsafe { find_all_inheritors(table, pg_sys::NoLock as c_int, std::ptr::null_mut()) }
}

/// The types of a relation's columns, without dropped ones. Needs a transaction.
pub fn column_types(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: syscache look-ups inside a transaction.
    unsafe {
        let types = (1..=column_count(relation)).map(|number| pg_sys::get_atttype(relation, number));
        types.filter(|one| *one != pg_sys::InvalidOid).collect()
    }
}

/// The highest attribute number of a relation; 0 if the relation does not exist.
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

/// Whether a type is `encrypted_text` itself. Needs a transaction.
pub fn is_encrypted_text(base: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups. `encrypted_text` is the extension's only base type, apart from its array, that has modifiers.
    let is_base = unsafe {
        pg_sys::get_typtype(base) == pg_sys::TYPTYPE_BASE as std::ffi::c_char
            && pg_sys::get_typmodin(base) != pg_sys::InvalidOid
            && pg_sys::get_element_type(base) == pg_sys::InvalidOid
    };
    is_base && is_of_extension(pg_sys::TypeRelationId, base)
}

/// Whether an object in the catalog with this OID belongs to the extension. Needs a transaction.
pub fn is_of_extension(catalog: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups. Objects that initdb created belong to no extension.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && object.to_u32() >= pg_sys::FirstNormalObjectId
            && pg_sys::getExtensionOfObject(catalog, object) == extension
    }
}
