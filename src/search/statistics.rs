//! Statistics of arrays and rows that hold encrypted values. ANALYZE keeps the most common ones, and to estimate `=` the
//! planner would compare a constant with each of them. That would open them, perhaps years later, when their key is gone. So
//! the planner does not see them.

use crate::datatype::{nested, type_lookup};
use crate::error::Error;
use crate::nodes::{length, nth};
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
    nested::may_hold_encrypted(type_oid) && !nested::is_leaf(type_oid)
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

/// Raises an error if extended statistics of a table combine encrypted values with something, after a statement that may have made them
/// do so. ANALYZE would keep the most common combinations, which these hooks don't hide.
///
/// # Safety
/// Inside a transaction; `node` is `CREATE STATISTICS` or `ALTER TABLE`, and was run.
pub unsafe fn refuse_combinations(node: *mut pg_sys::Node) {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the node's tag says what it is. The table is open while its list is read.
    unsafe {
        let name = match (*node).type_ {
            pg_sys::NodeTag::T_CreateStatsStmt => {
                nth((*node.cast::<pg_sys::CreateStatsStmt>()).relations, 0).cast()
            }
            pg_sys::NodeTag::T_AlterTableStmt => (*node.cast::<pg_sys::AlterTableStmt>()).relation,
            _ => return,
        };
        let table = pg_sys::try_relation_open(type_lookup::named_relation(name), lock);
        if table.is_null() {
            return;
        }
        let objects = pg_sys::RelationGetStatExtList(table);
        let combines_values = (0..length(objects))
            .any(|index| combines_values((*table).rd_id, pg_sys::list_nth_oid(objects, index)));
        pg_sys::relation_close(table, lock);
        if combines_values {
            Error::Statistics.raise();
        }
    }
}

/// Columns of `pg_statistic_ext`, `stxkeys` and `stxexprs` (`catalog/pg_statistic_ext.h`): pgrx does not bind them for every version.
const COLUMNS: pg_sys::AttrNumber =
    if cfg!(any(feature = "pg14", feature = "pg15", feature = "pg16")) { 7 } else { 6 };
const EXPRESSIONS: pg_sys::AttrNumber = 9;

/// Whether extended statistics are about several columns or expressions, and one of them holds encrypted values.
///
/// # Safety
/// Statistics of that table, inside a transaction.
unsafe fn combines_values(table: pg_sys::Oid, statistics: pg_sys::Oid) -> bool {
    let cache = pg_sys::SysCacheIdentifier::STATEXTOID as i32;
    // SAFETY: the row of pg_statistic_ext is released after it was read. Its columns are never null, but its expressions may be.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(statistics));
        if row.is_null() {
            return false;
        }
        let attribute = |number| {
            let mut is_null = false;
            let value = pg_sys::SysCacheGetAttr(cache, row, number, &mut is_null);
            (!is_null).then_some(value)
        };
        let mut types = Vec::new();
        if let Some(columns) = attribute(COLUMNS) {
            let columns = &*pg_sys::pg_detoast_datum(columns.cast_mut_ptr()).cast::<pg_sys::int2vector>();
            let columns = columns.values.as_slice(columns.dim1 as usize);
            types.extend(columns.iter().map(|column| pg_sys::get_atttype(table, *column)));
        }
        if let Some(expressions) = attribute(EXPRESSIONS) {
            let text = pg_sys::text_to_cstring(expressions.cast_mut_ptr());
            let expressions = pg_sys::stringToNode(text).cast::<pg_sys::List>();
            types.extend((0..length(expressions)).map(|index| pg_sys::exprType(nth(expressions, index))));
        }
        pg_sys::ReleaseSysCache(row);
        types.len() > 1 && types.into_iter().any(nested::may_hold_encrypted)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn free(tuple: pg_sys::HeapTuple) {
    // SAFETY: the copy made above.
    unsafe { pg_sys::heap_freetuple(tuple) }
}
