//! What a type is made of.

use crate::datatype::catalog;
use pgrx::{PgTupleDesc, check_for_interrupts, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

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

impl Kind {
    /// Whether values of this kind are to be taken apart.
    pub fn has_parts(self) -> bool {
        matches!(self, Self::Array | Self::Composite)
    }
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

/// What the values of a type can hold. Inside a transaction. Looks at each type once, however often and deep it is used.
pub fn holds(type_oid: pg_sys::Oid) -> Holds {
    let mut holds = Holds::default();
    let mut seen = HashSet::from([type_oid]);
    let mut to_see = vec![type_oid];
    while let Some(type_oid) = to_see.pop() {
        check_for_interrupts!();
        match shape(type_oid).kind {
            Kind::Encrypted => holds.encrypted = true,
            Kind::Bytes => holds.bytes = true,
            Kind::Array | Kind::Composite => {
                to_see.extend(parts(type_oid).into_iter().filter(|part| seen.insert(*part)));
            }
            Kind::Other => {}
        }
    }
    holds
}

/// The types that an array or a composite type is made of.
fn parts(type_oid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: catalog look-ups; there is no descriptor of the type `record` as such, and no element type of `anyarray`.
    let fields = unsafe {
        let base = pg_sys::getBaseType(type_oid);
        let element = pg_sys::get_element_type(base);
        if element != pg_sys::InvalidOid {
            return vec![element];
        }
        if !pg_sys::type_is_rowtype(base) {
            return Vec::new();
        }
        pg_sys::lookup_rowtype_tupdesc_noerror(base, -1, true)
    };
    if fields.is_null() {
        return Vec::new();
    }
    // SAFETY: a reference that is counted, and given back when it is dropped.
    let fields = unsafe { PgTupleDesc::from_pg(fields) };
    fields.iter().filter(|field| !field.attisdropped).map(|field| field.atttypid).collect()
}

thread_local! {
    static SHAPES: RefCell<HashMap<pg_sys::Oid, Shape>> = RefCell::new(HashMap::new());
    /// Changes with each type that changed.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Kept until a type changes. What a composite type is made of is not part of it: that may change without notice here.
pub fn shape(type_oid: pg_sys::Oid) -> Shape {
    if let Some(known) = known_shape(type_oid) {
        return known;
    }
    listen();
    let generation = GENERATION.get();
    // A look-up may itself hear of a change, and what was looked up before it is not to be kept then.
    let keep = |type_oid, shape| {
        if GENERATION.get() == generation {
            SHAPES.with_borrow_mut(|shapes| shapes.insert(type_oid, shape));
        }
    };
    // An array is of a kind if its elements are, through any number of domains and arrays.
    let (mut arrays, mut inner) = (Vec::new(), type_oid);
    let shape = loop {
        check_for_interrupts!();
        if let Some(known) = known_shape(inner) {
            break known;
        }
        let (shape, element) = find_shape(inner);
        let Some(element) = element else {
            keep(inner, shape);
            break shape;
        };
        arrays.push((inner, shape));
        inner = element;
    };
    let holds_nothing = shape.kind == Kind::Other;
    arrays.into_iter().rev().fold(shape, |_, (array, shape)| {
        let kind = if holds_nothing { Kind::Other } else { Kind::Array };
        let shape = Shape { kind, ..shape };
        keep(array, shape);
        shape
    })
}

fn known_shape(type_oid: pg_sys::Oid) -> Option<Shape> {
    SHAPES.with_borrow(|shapes| shapes.get(&type_oid).copied())
}

/// The shape of a type; of an array, whatever its elements are, and their type.
fn find_shape(type_oid: pg_sys::Oid) -> (Shape, Option<pg_sys::Oid>) {
    // SAFETY: catalog look-ups. Arrays in the catalogs (pg_attribute.attmissingval) are of the type `anyarray`.
    let (base, element) = unsafe {
        let base = pg_sys::getBaseType(type_oid);
        (base, pg_sys::get_element_type(base))
    };
    let kind = if base == pg_sys::BYTEAOID {
        Kind::Bytes
    } else if base == pg_sys::ANYARRAYOID || element != pg_sys::InvalidOid {
        Kind::Array
    // SAFETY: a catalog look-up.
    } else if unsafe { pg_sys::type_is_rowtype(base) } {
        Kind::Composite
    } else if catalog::is_encrypted_text(base) {
        Kind::Encrypted
    } else {
        Kind::Other
    };
    let shape = Shape { kind, is_domain: base != type_oid };
    (shape, (element != pg_sys::InvalidOid).then_some(element))
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
    GENERATION.set(GENERATION.get().wrapping_add(1));
    SHAPES.with(|shapes| {
        if let Ok(mut shapes) = shapes.try_borrow_mut() {
            shapes.clear();
        }
    });
}
