//! Before a statement is planned: seals the texts in `value = ANY (array)`, where the array is a constant or a parameter that
//! the plan is made for. The operators themselves see to single constants (`simplify`), but PostgreSQL asks no function
//! about arrays.

use super::simplify::operator_of;
use crate::datatype::catalog;
use crate::datatype::text_io::seal_unsearchable;
use crate::error::{Error, SqlResult};
use crate::settings;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

thread_local! {
    static NEXT: Cell<pg_sys::planner_hook_type> = const { Cell::new(None) };
}

type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    // pgrx has them for some versions only, and with an error boundary at each node.
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "expression_tree_walker_impl")]
    fn expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(not(any(feature = "pg14", feature = "pg15")), link_name = "query_tree_walker_impl")]
    fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

/// Installs the hook.
pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

/// Not guarded, and without anything to drop: errors pass through as PostgreSQL raised them.
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: everything is passed on as PostgreSQL gave it; a planner may change the query that it is given.
    unsafe {
        walk(query.cast(), params.cast());
        match NEXT.get() {
            Some(next) => next(query, text, options, params),
            None => standard_planner(query, text, options, params),
        }
    }
}

/// Finds the comparisons with arrays. Not guarded: see [`plan`].
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, params: *mut c_void) -> bool {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => return query_tree_walker(node.cast(), walk, params, 0),
            pg_sys::NodeTag::T_ScalarArrayOpExpr => seal_array(node.cast(), params.cast()),
            _ => {}
        }
        expression_tree_walker(node, walk, params)
    }
}

/// Turns `encrypted_text = ANY (text[])` into `encrypted_text = ANY (encrypted_text[])`, where the array is known.
#[pg_guard]
unsafe extern "C-unwind" fn seal_array(
    comparison: *mut pg_sys::ScalarArrayOpExpr,
    params: pg_sys::ParamListInfo,
) {
    // SAFETY: PostgreSQL passes such a node. It has two arguments.
    let sealed = unsafe { try_to_seal(&mut *comparison, params) };
    if let Err(error) = sealed {
        error.report(PgLogLevel::ERROR);
    }
}

/// # Safety
/// The parameters are null or what PostgreSQL plans with.
unsafe fn try_to_seal(
    comparison: &mut pg_sys::ScalarArrayOpExpr,
    params: pg_sys::ParamListInfo,
) -> SqlResult<()> {
    if comparison.opno.to_u32() < pg_sys::FirstNormalObjectId {
        return Ok(());
    }
    // SAFETY: catalog look-ups; the nodes are those of the query.
    unsafe {
        let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::op_input_types(comparison.opno, &mut left, &mut right);
        if right != pg_sys::TEXTOID || !catalog::is_encrypted_text(left) {
            return Ok(());
        }
        let argument = known(pg_sys::list_nth(comparison.args, 1).cast(), params);
        if argument.is_null() || !pgrx::is_a(argument, pg_sys::NodeTag::T_Const) {
            return Ok(());
        }
        let array = &*argument.cast::<pg_sys::Const>();
        if array.constisnull || array.consttype != pg_sys::TEXTARRAYOID {
            return Ok(());
        }
        let name = std::ffi::CStr::from_ptr(pg_sys::get_opname(comparison.opno));
        let operator = operator_of(pg_sys::get_opcode(comparison.opno), name, left);
        let array_type = pg_sys::get_array_type(left);
        if operator == pg_sys::InvalidOid || array_type == pg_sys::InvalidOid {
            return Ok(());
        }
        settings::note_constant();
        let sealed = sealed_array(array.constvalue, left)?;
        let sealed = pg_sys::makeConst(array_type, -1, pg_sys::InvalidOid, -1, sealed, false, false);
        comparison.args = pg_sys::list_make2_impl(
            pg_sys::NodeTag::T_List,
            pg_sys::ListCell { ptr_value: pg_sys::list_nth(comparison.args, 0) },
            pg_sys::ListCell { ptr_value: sealed.cast() },
        );
        comparison.opno = operator;
        comparison.opfuncid = pg_sys::get_opcode(operator);
        comparison.inputcollid = pg_sys::InvalidOid;
    }
    Ok(())
}

/// An expression as far as it can be computed before the statement runs.
///
/// # Safety
/// As [`try_to_seal`].
unsafe fn known(expression: *mut pg_sys::Node, params: pg_sys::ParamListInfo) -> *mut pg_sys::Node {
    // SAFETY: the planner's own computation of constants, which looks at nothing else of the planner's state.
    unsafe {
        let mut global = pg_sys::PlannerGlobal {
            type_: pg_sys::NodeTag::T_PlannerGlobal,
            boundParams: params,
            ..Default::default()
        };
        let mut root = pg_sys::PlannerInfo {
            type_: pg_sys::NodeTag::T_PlannerInfo,
            glob: &mut global,
            ..Default::default()
        };
        pg_sys::eval_const_expressions(&mut root, expression)
    }
}

/// The same array with every text sealed.
///
/// # Safety
/// `array` is a `text[]`, and `element_type` is `encrypted_text`.
unsafe fn sealed_array(array: pg_sys::Datum, element_type: pg_sys::Oid) -> Result<pg_sys::Datum, Error> {
    // SAFETY: PostgreSQL allocates what it takes apart, elements and nulls in equal number. Both types have variable length
    // and are aligned to integers.
    unsafe {
        let align = pg_sys::TYPALIGN_INT as c_char;
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut elements, mut nulls, mut count) = (null_mut(), null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            pg_sys::TEXTOID,
            -1,
            false,
            align,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        for index in 0..count.cast_unsigned() as usize {
            let (element, is_null) = (elements.add(index), *nulls.add(index));
            if !is_null {
                *element = seal_unsearchable(*element)?.datum();
            }
        }
        let dimensions = (*array).ndim;
        let sizes = array.cast::<u8>().add(size_of::<pg_sys::ArrayType>()).cast::<c_int>();
        let lower_bounds = sizes.add(dimensions.cast_unsigned() as usize);
        let sealed = pg_sys::construct_md_array(
            elements,
            nulls,
            dimensions,
            sizes,
            lower_bounds,
            element_type,
            -1,
            false,
            align,
        );
        Ok(pg_sys::Datum::from(sealed))
    }
}
