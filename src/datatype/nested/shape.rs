//! What a type is made of. Users may nest types to any depth and use them any number of times: each is looked at once, without
//! recursion, and can be cancelled.

use crate::datatype::type_lookup::{self, Makeup};
use crate::keyring;
use pgrx::{check_for_interrupts, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

/// What values of a type are made of. A domain counts as its base type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `encrypted_text`.
    Encrypted,
    /// `bytea`.
    Bytes,
    /// An array of anything but `Other`.
    Array,
    /// A range of anything but `Other`.
    Range,
    /// A multirange of anything but `Other`.
    Multirange,
    /// Has fields of any kind.
    Composite,
    /// Holds neither `encrypted_text` nor `bytea`.
    Other,
}

impl Kind {
    /// Whether values of this kind have to be taken apart.
    pub fn has_parts(self) -> bool {
        !matches!(self, Self::Encrypted | Self::Bytes | Self::Other)
    }
}

/// What is known of a type.
#[derive(Clone, Copy)]
pub struct Shape {
    pub kind: Kind,
    /// Whether the type is a domain.
    pub is_domain: bool,
    /// The type without its domains.
    pub base: pg_sys::Oid,
    /// The type inside all domains, arrays, ranges and multiranges.
    core: pg_sys::Oid,
}

/// What the values of a type can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// `encrypted_text`.
    pub encrypted: bool,
    /// `bytea`, where `encrypt_bytes()` puts its results.
    pub bytes: bool,
}

/// A type that stands for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextLike {
    /// `encrypted_text`, or a domain over it: this type.
    Value(pg_sys::Oid),
    /// An array of such, or a domain over one.
    Array { element: pg_sys::Oid },
}

impl TextLike {
    /// The type of the values.
    pub fn value_type(self) -> pg_sys::Oid {
        match self {
            Self::Value(one) | Self::Array { element: one } => one,
        }
    }
}

/// Whether a type stands for text or an array of texts. Needs a transaction.
pub fn text_like(type_oid: pg_sys::Oid) -> Option<TextLike> {
    let Shape { kind, base, .. } = shape(type_oid);
    match kind {
        Kind::Encrypted => Some(TextLike::Value(type_oid)),
        Kind::Array => {
            // SAFETY: a catalog look-up.
            let element = unsafe { pg_sys::get_element_type(base) };
            (shape(element).kind == Kind::Encrypted).then_some(TextLike::Array { element })
        }
        _ => None,
    }
}

/// Whether the values of a type are `encrypted_text` or `bytea` themselves. Needs a transaction.
pub fn is_leaf(type_oid: pg_sys::Oid) -> bool {
    matches!(shape(type_oid).kind, Kind::Encrypted | Kind::Bytes)
}

/// What the values of a type can hold. Needs a transaction.
pub fn holds(type_oid: pg_sys::Oid) -> Holds {
    let core = shape(type_oid).core;
    match shape(core).kind {
        Kind::Composite => composite_holds(core),
        kind => Holds { encrypted: kind == Kind::Encrypted, bytes: kind == Kind::Bytes },
    }
}

/// Whether values of a type are or can hold `encrypted_text`. Types that initdb created are not looked at: they hold none. Needs a
/// transaction.
pub fn may_hold_encrypted(type_oid: pg_sys::Oid) -> bool {
    type_oid.to_u32() >= pg_sys::FirstNormalObjectId && holds(type_oid).encrypted
}

/// Whether a relation has a column whose values can hold `encrypted_text`, at any depth of arrays, composites, domains, ranges
/// and multiranges. Partitions are not looked at: they have the columns of their table. Needs a transaction.
pub fn has_encrypted_column(relation: pg_sys::Oid) -> bool {
    type_lookup::column_types(relation).into_iter().any(may_hold_encrypted)
}

thread_local! {
    static SHAPES: RefCell<HashMap<pg_sys::Oid, Shape>> = RefCell::new(HashMap::new());
    /// What composite types hold, as of these generations of types and of relations.
    static HOLDS: RefCell<((u64, u32), HashMap<pg_sys::Oid, Holds>)> = RefCell::new(((0, 0), HashMap::new()));
    /// Changes whenever a type changes.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

fn composite_holds(composite: pg_sys::Oid) -> Holds {
    listen();
    // SAFETY: PostgreSQL does the same whenever it locks a relation. A composite type can change without a lock on the tables
    // that use it.
    unsafe { pg_sys::AcceptInvalidationMessages() }
    let as_of = || (GENERATION.get(), keyring::relations_as_of());
    let before = as_of();
    let known = HOLDS.with_borrow_mut(|(known_as_of, known)| {
        if *known_as_of != before {
            known.clear();
            *known_as_of = before;
        }
        known.get(&composite).copied()
    });
    known.unwrap_or_else(|| {
        let holds = look_into(composite);
        HOLDS.with_borrow_mut(|(known_as_of, known)| {
            if *known_as_of == as_of() {
                known.insert(composite, holds);
            }
        });
        holds
    })
}

fn look_into(composite: pg_sys::Oid) -> Holds {
    let mut holds = Holds::default();
    let mut seen = HashSet::from([composite]);
    let mut to_see = vec![composite];
    while let Some(composite) = to_see.pop() {
        let Makeup::Row(relation) = Makeup::of(composite) else { continue };
        for column in type_lookup::column_types(relation) {
            check_for_interrupts!();
            let core = shape(column).core;
            match shape(core).kind {
                Kind::Encrypted => holds.encrypted = true,
                Kind::Bytes => holds.bytes = true,
                Kind::Composite if seen.insert(core) => to_see.push(core),
                _ => {}
            }
        }
    }
    holds
}

/// The shape of a type, cached until a type changes. It leaves out what a composite type is made of, which may change without
/// notice to this cache.
pub fn shape(type_oid: pg_sys::Oid) -> Shape {
    if let Some(known) = known_shape(type_oid) {
        return known;
    }
    listen();
    let generation = GENERATION.get();
    // A look-up may itself process an invalidation. What was looked up before that must not be kept.
    let keep = |type_oid, shape| {
        if GENERATION.get() == generation {
            SHAPES.with_borrow_mut(|shapes| shapes.insert(type_oid, shape));
        }
    };
    let (mut around, mut inner) = (Vec::new(), type_oid);
    let shape = loop {
        check_for_interrupts!();
        if let Some(known) = known_shape(inner) {
            break known;
        }
        let makeup = Makeup::of(inner);
        let Some(part) = makeup.part() else {
            let kind = kind_of(inner, makeup);
            let shape = Shape { kind, is_domain: false, base: inner, core: inner };
            keep(inner, shape);
            break shape;
        };
        around.push((inner, makeup));
        inner = part;
    };
    around.into_iter().rev().fold(shape, |inner, (type_oid, makeup)| {
        let shape = inner.inside_of(type_oid, makeup);
        keep(type_oid, shape);
        shape
    })
}

impl Shape {
    /// The shape of a type that is made of this one.
    fn inside_of(self, type_oid: pg_sys::Oid, makeup: Makeup) -> Self {
        let kind = match makeup {
            Makeup::Array(_) => Kind::Array,
            Makeup::Range(_) => Kind::Range,
            Makeup::Multirange(_) => Kind::Multirange,
            Makeup::Domain(_) | Makeup::Row(_) | Makeup::Whole => return Self { is_domain: true, ..self },
        };
        let kind = if self.kind == Kind::Other { Kind::Other } else { kind };
        Self { kind, is_domain: false, base: type_oid, core: self.core }
    }
}

fn known_shape(type_oid: pg_sys::Oid) -> Option<Shape> {
    SHAPES.with_borrow(|shapes| shapes.get(&type_oid).copied())
}

/// The kind of a type that is not made of a single other type.
fn kind_of(type_oid: pg_sys::Oid, makeup: Makeup) -> Kind {
    match makeup {
        Makeup::Row(_) => Kind::Composite,
        // Arrays of type `anyarray` in the catalogs (pg_attribute.attmissingval) name their element type themselves.
        _ if type_oid == pg_sys::ANYARRAYOID => Kind::Array,
        _ if type_oid == pg_sys::BYTEAOID => Kind::Bytes,
        _ if type_lookup::is_encrypted_text(type_oid) => Kind::Encrypted,
        _ => Kind::Other,
    }
}

fn listen() {
    if !LISTENING.replace(true) {
        let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
        // SAFETY: registered once per backend; the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache, Some(forget), pg_sys::Datum::null()) }
    }
}

/// Needs no guard: it calls nothing that can panic.
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    GENERATION.set(GENERATION.get().wrapping_add(1));
    SHAPES.with(|shapes| {
        if let Ok(mut shapes) = shapes.try_borrow_mut() {
            shapes.clear();
        }
    });
}
