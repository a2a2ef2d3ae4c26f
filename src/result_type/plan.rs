//! Takes the conversions off a query before it is planned, and puts them on top of its plan.

use super::columns::{converted, new_node, result_columns, with_argument};
use crate::error::Error;
use crate::nodes::{length, nth};
use pgrx::prelude::*;
use std::ptr::null_mut;

/// The conversions that were taken off a query: a list of target entries with the numbers of the columns. Null if there were none.
pub type Announced = *mut pg_sys::List;

/// Takes the conversions off a query. Not guarded, and without anything to drop, as most queries have none.
///
/// # Safety
/// A query that is about to be planned, and may be changed.
#[inline]
pub unsafe fn take_off(query: *mut pg_sys::Query) -> Announced {
    // SAFETY: as promised by the caller; the list is made in its memory context.
    unsafe {
        let columns = result_columns(query);
        let mut announced = null_mut();
        if columns.is_null() {
            return announced;
        }
        for index in 0..(*columns).length as usize {
            let column = &mut *(*(*columns).elements.add(index)).ptr_value.cast::<pg_sys::TargetEntry>();
            let value = converted(column.expr);
            if !value.is_null() {
                announced = noted(announced, column);
                column.expr = value;
            }
        }
        announced
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn noted(announced: Announced, column: *const pg_sys::TargetEntry) -> Announced {
    // SAFETY: `take_off` passes a list and an entry.
    unsafe {
        let entry = pg_sys::makeTargetEntry((*column).expr, (*column).resno, null_mut(), false);
        pg_sys::lappend(announced, entry.cast())
    }
}

/// Puts the conversions on top of the plan of a query that they were taken off.
///
/// # Safety
/// `plan` was just made from that query, in this memory context.
#[pg_guard]
pub unsafe extern "C-unwind" fn convert(plan: *mut pg_sys::PlannedStmt, announced: Announced) {
    // SAFETY: as promised by the caller; the tags of nodes say what they are.
    unsafe {
        let top = (*plan).planTree;
        if pgrx::is_a(top.cast(), pg_sys::NodeTag::T_ModifyTable) {
            // What RETURNING gives for each of the tables.
            let lists = (*top.cast::<pg_sys::ModifyTable>()).returningLists;
            for index in 0..length(lists) {
                wrap(nth(lists, index).cast(), announced);
            }
            if length(lists) > 0 {
                (*top).targetlist = pg_sys::copyObjectImpl(nth(lists, 0).cast()).cast();
            }
            return;
        }
        if !pg_sys::is_projection_capable_plan(top) {
            (*plan).planTree = projection_of(top);
        }
        wrap((*(*plan).planTree).targetlist, announced);
    }
}

/// Converts the announced columns of a target list.
///
/// # Safety
/// `columns` is the target list of a finished plan.
unsafe fn wrap(columns: *mut pg_sys::List, announced: Announced) {
    // SAFETY: as promised by the caller; `take_off` made the other list.
    unsafe {
        for conversion in
            (0..length(announced)).map(|index| &*nth(announced, index).cast::<pg_sys::TargetEntry>())
        {
            let column = (0..length(columns))
                .map(|index| nth(columns, index).cast::<pg_sys::TargetEntry>())
                .find(|column| (**column).resno == conversion.resno);
            let same_type = |column: &*mut pg_sys::TargetEntry| {
                pg_sys::exprType((**column).expr.cast())
                    == pg_sys::exprType(converted(conversion.expr).cast())
            };
            match column.filter(same_type) {
                Some(column) => (*column).expr = with_argument(conversion.expr, (*column).expr),
                None => Error::Internal("a plan has other columns than its query").raise(),
            }
        }
    }
}

/// A node that only computes columns, on top of one that can't, like a sort or a limit. Columns that nobody is sent are left out.
///
/// # Safety
/// `top` is the topmost node of a finished plan.
unsafe fn projection_of(top: *mut pg_sys::Plan) -> *mut pg_sys::Plan {
    // SAFETY: as promised by the caller; all other fields of the new node are zero.
    unsafe {
        let node = new_node::<pg_sys::Result>(pg_sys::NodeTag::T_Result);
        let below = &*top;
        (*node).plan = pg_sys::Plan {
            type_: pg_sys::NodeTag::T_Result,
            async_capable: false,
            parallel_aware: false,
            // Numbers only serve nodes below a Gather.
            plan_node_id: -1,
            targetlist: null_mut(),
            qual: null_mut(),
            lefttree: top,
            righttree: null_mut(),
            initPlan: null_mut(),
            extParam: pg_sys::bms_copy(below.extParam),
            allParam: pg_sys::bms_copy(below.allParam),
            ..*below
        };
        for index in 0..length(below.targetlist) {
            let column = &*nth(below.targetlist, index).cast::<pg_sys::TargetEntry>();
            if column.resjunk {
                continue;
            }
            let value =
                pg_sys::makeVarFromTargetEntry(pg_sys::OUTER_VAR, nth(below.targetlist, index).cast());
            let entry = pg_sys::flatCopyTargetEntry(nth(below.targetlist, index).cast());
            (*entry).expr = value.cast();
            (*node).plan.targetlist = pg_sys::lappend((*node).plan.targetlist, entry.cast());
        }
        node.cast()
    }
}

/// Refuses to give the result of a plan to anything but the client, if it is announced as text: a function or a table would take plaintext for
/// what it is not. Not guarded, and without anything to drop, as most plans are none.
///
/// # Safety
/// A query whose execution has been prepared and which is about to run.
#[inline]
pub unsafe fn require_client(query: *mut pg_sys::QueryDesc) {
    use pg_sys::CommandDest::{DestCopyOut, DestIntoRel, DestSPI, DestSQLFunction, DestTransientRel};
    // SAFETY: as promised by the caller; a query always has a plan, and its target list has only target entries.
    unsafe {
        let receiver = (*query).dest;
        let is_of_server = !receiver.is_null()
            && [DestSPI, DestSQLFunction, DestIntoRel, DestTransientRel, DestCopyOut]
                .contains(&(*receiver).mydest);
        if !is_of_server {
            return;
        }
        let columns = (*(*(*query).plannedstmt).planTree).targetlist;
        if columns.is_null() {
            return;
        }
        for index in 0..(*columns).length as usize {
            let column = (*(*columns).elements.add(index)).ptr_value.cast::<pg_sys::TargetEntry>();
            if !converted((*column).expr).is_null() {
                refuse();
            }
        }
    }
}

#[pg_guard]
extern "C-unwind" fn refuse() {
    Error::ResultOfClient.raise();
}
