//! Statistics of arrays and rows that hold encrypted values. ANALYZE keeps the most common ones, and to estimate `=` the
//! planner would compare a constant with each of them. That would open them, perhaps years later, when their key is gone. So
//! the planner does not see them.

use crate::datatype::nested;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    static NEXT: Cell<pg_sys::get_relation_stats_hook_type> = const { Cell::new(None) };
    static NEXT_OF_INDEXES: Cell<pg_sys::get_index_stats_hook_type> = const { Cell::new(None) };
}

/// Installs the hooks.
pub fn init() {
    // SAFETY: both are set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::get_relation_stats_hook);
        pg_sys::get_relation_stats_hook = Some(relation_stats);
        NEXT_OF_INDEXES.set(pg_sys::get_index_stats_hook);
        pg_sys::get_index_stats_hook = Some(index_stats);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_stats(
    root: *mut pg_sys::PlannerInfo,
    range: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: PostgreSQL passes its own structures, of a table and one of its columns.
    unsafe {
        if NEXT.get().is_some_and(|next| next(root, range, column, data)) {
            return true;
        }
        // Subqueries that were views keep the view's oid.
        let is_table = (*range).rtekind == pg_sys::RTEKind::RTE_RELATION;
        let table = (*range).relid;
        let type_oid =
            if is_table && column > 0 { pg_sys::get_atttype(table, column) } else { pg_sys::InvalidOid };
        holds_values(type_oid) && hide_values(table, column, (*range).inh, data)
    }
}

/// The same for an index expression.
#[pg_guard]
unsafe extern "C-unwind" fn index_stats(
    root: *mut pg_sys::PlannerInfo,
    index: pg_sys::Oid,
    column: pg_sys::AttrNumber,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: PostgreSQL passes its own structures, of an index and one of its columns.
    unsafe {
        NEXT_OF_INDEXES.get().is_some_and(|next| next(root, index, column, data))
            || holds_values((*data).vartype) && hide_values(index, column, false, data)
    }
}

/// Whether a type has parts that hold encrypted values. PostgreSQL's own types have none. Inside a transaction.
fn holds_values(type_oid: pg_sys::Oid) -> bool {
    type_oid.to_u32() >= pg_sys::FirstNormalObjectId
        && !nested::is_leaf(type_oid)
        && nested::holds(type_oid).encrypted
}

/// # Safety
/// The arguments are what PostgreSQL passed to a hook.
unsafe fn hide_values(
    table: pg_sys::Oid,
    column: pg_sys::AttrNumber,
    inherited: bool,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        (*data).statsTuple = without_values(table, column, inherited);
        (*data).freefunc = Some(free);
    }
    true
}

/// The statistics of a column without values: null fraction, width, number of distinct values. Null if there are none.
///
/// # Safety
/// Inside a transaction.
unsafe fn without_values(
    table: pg_sys::Oid,
    column: pg_sys::AttrNumber,
    inherited: bool,
) -> pg_sys::HeapTuple {
    // SAFETY: a catalog look-up by table, column and inheritance; the copy is ours.
    unsafe {
        let found = pg_sys::SearchSysCache3(
            pg_sys::SysCacheIdentifier::STATRELATTINH as i32,
            pg_sys::Datum::from(table),
            pg_sys::Datum::from(column),
            pg_sys::Datum::from(inherited),
        );
        if found.is_null() {
            return found;
        }
        let copy = pg_sys::heap_copytuple(found);
        pg_sys::ReleaseSysCache(found);
        let statistics = &mut *pg_sys::GETSTRUCT(copy).cast::<pg_sys::FormData_pg_statistic>();
        statistics.stakind1 = 0;
        statistics.stakind2 = 0;
        statistics.stakind3 = 0;
        statistics.stakind4 = 0;
        statistics.stakind5 = 0;
        copy
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn free(tuple: pg_sys::HeapTuple) {
    // SAFETY: the copy made above.
    unsafe { pg_sys::heap_freetuple(tuple) }
}
