//! Every type that holds a given one. Reads each catalog that says what types are made of once, and then takes each step at most
//! twice: so it stays fast whatever types users create, and however many.

use super::type_lookup::{Makeup, column_types};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::collections::HashMap;
use std::ptr::null_mut;

/// `pg_range` (`catalog/pg_range.h`): pgrx has no binding for it.
const RANGE_RELATION: Oid = Oid::from_u32(3541);
const RANGE_TYPE: usize = 0;
const RANGE_SUBTYPE: usize = 1;
const RANGE_MULTIRANGE: usize = 2;

/// The type `makes` is made of the type `of`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    of: u32,
    makes: u32,
    /// Whether `of` is a part of `makes`; otherwise `makes` is a domain.
    nests: bool,
}

/// `prism_crypt._types_over(base oid) → table(type oid, nested boolean)`: the type itself, domains over it and, nested, arrays,
/// ranges, multiranges and composite types.
#[pg_extern(sql = false)]
fn _types_over(base: Oid) -> TableIterator<'static, (name!(type_oid, Oid), name!(nested, bool))> {
    let steps = steps();
    // How each type was reached: 1 through domains only, 2 nested, 3 both.
    let mut reached = HashMap::from([(base.to_u32(), 1_u8)]);
    let mut to_go = vec![(base.to_u32(), false)];
    while let Some((of, is_nested)) = to_go.pop() {
        let first = steps.partition_point(|step| step.of < of);
        for step in steps[first..].iter().take_while(|step| step.of == of) {
            check_for_interrupts!();
            let is_nested = is_nested || step.nests;
            let way = 1 << u8::from(is_nested);
            let ways = reached.entry(step.makes).or_default();
            if *ways & way == 0 {
                *ways |= way;
                to_go.push((step.makes, is_nested));
            }
        }
    }
    TableIterator::new(reached.into_iter().map(|(one, ways)| (Oid::from_u32(one), ways & 2 != 0)))
}

/// The steps of all types, sorted.
fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |of: Oid, makes: Oid, nests| {
        if of != pg_sys::InvalidOid && makes != pg_sys::InvalidOid {
            let step = Step { of: of.to_u32(), makes: makes.to_u32(), nests };
            // Columns of one table that have the same type often come together.
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
    };
    let mut rows = HashMap::new();
    // SAFETY: the rows of each catalog begin with the structure that is read.
    unsafe {
        each_row(pg_sys::TypeRelationId, &mut |row| {
            let form = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_type>();
            add(form.typbasetype, form.oid, false);
            add(form.oid, form.typarray, true);
            if form.typrelid != pg_sys::InvalidOid {
                rows.insert(form.typrelid, form.oid);
            }
        });
        each_row(RANGE_RELATION, &mut |row| {
            let oids = pg_sys::GETSTRUCT(row).cast::<Oid>();
            let at = |place| *oids.add(place);
            add(at(RANGE_SUBTYPE), at(RANGE_TYPE), true);
            add(at(RANGE_TYPE), at(RANGE_MULTIRANGE), true);
        });
        each_row(pg_sys::AttributeRelationId, &mut |row| {
            let form = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_attribute>();
            if form.attnum > 0
                && !form.attisdropped
                && let Some(row_type) = rows.get(&form.attrelid)
            {
                add(form.atttypid, *row_type, true);
            }
        });
    }
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Calls `see` with every row of a catalog that is visible to the running statement.
///
/// # Safety
/// Inside a transaction, with a snapshot.
unsafe fn each_row(catalog: Oid, see: &mut dyn FnMut(pg_sys::HeapTuple)) {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: the usual scan of a catalog without an index; each row is used before the next is fetched. After an error,
    // PostgreSQL ends the scan.
    unsafe {
        let catalog = pg_sys::table_open(catalog, lock);
        let snapshot = pg_sys::GetActiveSnapshot();
        let scan = pg_sys::systable_beginscan(catalog, pg_sys::InvalidOid, false, snapshot, 0, null_mut());
        loop {
            check_for_interrupts!();
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            see(row);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, lock);
    }
}

/// `prism_crypt._holds_encrypted(type oid) → boolean`: whether values of a type are, or can hold, `encrypted_text`.
#[pg_extern(sql = false)]
fn _holds_encrypted(type_oid: Oid) -> bool {
    super::nested::holds(type_oid).encrypted
}

/// PostgreSQL checks this many parts in well under a second.
const QUICK: u32 = 100_000;

/// `prism_crypt._is_quickly_checked(type oid) → boolean`: whether PostgreSQL can quickly create a table with a column of a type.
/// It checks the parts of the type recursively, those that are used twice each time again, and can't be cancelled.
#[pg_extern(sql = false)]
fn _is_quickly_checked(type_oid: Oid) -> bool {
    /// A type is left after all of its parts.
    enum Visit {
        Enter(Oid),
        Leave(Oid, Vec<Oid>),
    }
    let mut looks = HashMap::new();
    let mut to_do = vec![Visit::Enter(type_oid)];
    while let Some(visit) = to_do.pop() {
        check_for_interrupts!();
        match visit {
            Visit::Enter(one) if looks.contains_key(&one) => {}
            Visit::Enter(one) => {
                looks.insert(one, 1);
                let parts = parts_of(one);
                to_do.push(Visit::Leave(one, parts.clone()));
                to_do.extend(parts.into_iter().map(Visit::Enter));
            }
            Visit::Leave(one, parts) => {
                let of = |part| looks.get(part).copied().unwrap_or(1_u32);
                let sum = parts.iter().map(of).fold(1, u32::saturating_add);
                if sum > QUICK {
                    return false;
                }
                looks.insert(one, sum);
            }
        }
    }
    true
}

fn parts_of(type_oid: Oid) -> Vec<Oid> {
    if type_oid.to_u32() < pg_sys::FirstNormalObjectId {
        return Vec::new();
    }
    match Makeup::of(type_oid) {
        Makeup::Row(relation) => column_types(relation),
        makeup => makeup.part().into_iter().collect(),
    }
}
