//! What a type is made of.

use crate::datatype::catalog;
use pgrx::{PgTupleDesc, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// What values of a type are made of, domains looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `encrypted_text`.
    Encrypted,
    /// `bytea`.
    Bytes,
    /// An array of anything but `Other`.
    Array,
    /// Has fields, of whatever kinds.
    Composite,
    /// Holds neither.
    Other,
}

/// A kind, and whether a domain was looked through.
#[derive(Clone, Copy)]
pub struct Shape {
    pub kind: Kind,
    pub is_domain: bool,
}

/// What the values of a type can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// `encrypted_text`.
    pub encrypted: bool,
    /// `bytea`, where `encrypt_bytes()` puts its results.
    pub bytes: bool,
}

/// Whether the values of a type are `encrypted_text` or `bytea`, and not made of parts. Inside a transaction.
pub fn is_leaf(type_oid: pg_sys::Oid) -> bool {
    matches!(shape(type_oid).kind, Kind::Encrypted | Kind::Bytes)
}

/// What the values of a type can hold. Inside a transaction.
pub fn holds(type_oid: pg_sys::Oid) -> Holds {
    match shape(type_oid).kind {
        Kind::Encrypted => Holds { encrypted: true, ..Holds::default() },
        Kind::Bytes => Holds { bytes: true, ..Holds::default() },
        // SAFETY: a catalog look-up.
        Kind::Array => holds(unsafe { pg_sys::get_element_type(pg_sys::getBaseType(type_oid)) }),
        Kind::Composite => {
            // SAFETY: a catalog look-up; there is no descriptor of the type `record` as such.
            let fields =
                unsafe { pg_sys::lookup_rowtype_tupdesc_noerror(pg_sys::getBaseType(type_oid), -1, true) };
            if fields.is_null() {
                return Holds::default();
            }
            // SAFETY: a reference that is counted, and given back when it is dropped.
            let fields = unsafe { PgTupleDesc::from_pg(fields) };
            fields.iter().filter(|field| !field.attisdropped).map(|field| holds(field.atttypid)).fold(
                Holds::default(),
                |all, one| Holds { encrypted: all.encrypted || one.encrypted, bytes: all.bytes || one.bytes },
            )
        }
        Kind::Other => Holds::default(),
    }
}

thread_local! {
    static SHAPES: RefCell<HashMap<pg_sys::Oid, Shape>> = RefCell::new(HashMap::new());
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Kept until a type changes. What a composite type is made of is not part of it: that may change without notice here.
pub fn shape(type_oid: pg_sys::Oid) -> Shape {
    if let Some(known) = SHAPES.with_borrow(|shapes| shapes.get(&type_oid).copied()) {
        return known;
    }
    listen();
    let shape = find_shape(type_oid);
    SHAPES.with_borrow_mut(|shapes| shapes.insert(type_oid, shape));
    shape
}

fn find_shape(type_oid: pg_sys::Oid) -> Shape {
    // SAFETY: catalog look-ups. Arrays in the catalogs (pg_attribute.attmissingval) are of the type `anyarray`.
    let (base, element) = unsafe {
        let base = pg_sys::getBaseType(type_oid);
        (base, pg_sys::get_element_type(base))
    };
    let kind = if base == pg_sys::BYTEAOID {
        Kind::Bytes
    } else if base == pg_sys::ANYARRAYOID {
        Kind::Array
    } else if element != pg_sys::InvalidOid {
        if shape(element).kind == Kind::Other { Kind::Other } else { Kind::Array }
    // SAFETY: a catalog look-up.
    } else if unsafe { pg_sys::type_is_rowtype(base) } {
        Kind::Composite
    } else if catalog::is_encrypted_text(base) {
        Kind::Encrypted
    } else {
        Kind::Other
    };
    Shape { kind, is_domain: base != type_oid }
}

fn listen() {
    if !LISTENING.replace(true) {
        let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
        // SAFETY: registered once a backend, and the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache, Some(forget), pg_sys::Datum::null()) }
    }
}

/// Not guarded: it calls nothing that can panic.
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    SHAPES.with(|shapes| {
        if let Ok(mut shapes) = shapes.try_borrow_mut() {
            shapes.clear();
        }
    });
}
