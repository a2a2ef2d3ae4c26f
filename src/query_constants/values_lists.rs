//! `value IN (VALUES ('a'), ('b'))`. PostgreSQL 18 turns it into `value = ANY ('{a,b}')` when nobody is asked about constants any
//! more: plans would show the texts. So they are sealed where they stand.

use super::array_support::MAX_SEALED_LEN;
use super::evaluation::known;
use super::with_text::{WithText, constant, seal_unsearchable, with_argument};
use crate::error::Error;
use crate::nodes::{length, nth};
use pgrx::pg_sys;

/// Whether an expression is the comparison with the rows of a subquery that [`seal_values`] may be about.
///
/// # Safety
/// `sublink` is a node of an analysed query.
#[inline]
pub unsafe fn may_compare_values(sublink: &pg_sys::SubLink) -> bool {
    // SAFETY: as promised by the caller; the nodes' tags say what they are.
    unsafe {
        sublink.subLinkType == pg_sys::SubLinkType::ANY_SUBLINK
            && !sublink.testexpr.is_null()
            && pgrx::is_a(sublink.testexpr, pg_sys::NodeTag::T_OpExpr)
            && (*sublink.testexpr.cast::<pg_sys::OpExpr>()).opno.to_u32() >= pg_sys::FirstNormalObjectId
    }
}

/// Seals a list of texts that a value is compared with, if all of them are known.
///
/// # Safety
/// The subquery comparison is part of a query that is about to be planned. The parameters are null or what PostgreSQL plans with.
pub unsafe fn seal_values(sublink: &mut pg_sys::SubLink, params: pg_sys::ParamListInfo) -> Result<(), Error> {
    // SAFETY: as promised by the caller; `may_compare_values` has seen an operator, which has two arguments. Every value list of the one
    // row source has as many members as that has columns.
    unsafe {
        let comparison = &mut *sublink.testexpr.cast::<pg_sys::OpExpr>();
        let Some(operator) = WithText::of(comparison.opno).filter(|operator| !operator.is_text_left) else {
            return Ok(());
        };
        let (Some(row), Some(source)) = (row_of(nth(comparison.args, 1)), Source::of(sublink.subselect))
        else {
            return Ok(());
        };
        let Some(sealed) = sealed_values(source.rows, source.column.vartype, operator.encrypted, params)?
        else {
            return Ok(());
        };
        for (index, value) in (0..).zip(sealed) {
            (*(*nth(source.rows, index).cast::<pg_sys::List>()).elements).ptr_value = value.cast();
        }
        (*(*source.types).elements).oid_value = operator.encrypted;
        (*(*source.modifiers).elements).int_value = -1;
        (*(*source.collations).elements).oid_value = pg_sys::InvalidOid;
        (source.column.vartype, source.column.vartypmod) = (operator.encrypted, -1);
        source.column.varcollid = pg_sys::InvalidOid;
        (row.paramtype, row.paramtypmod, row.paramcollid) = (operator.encrypted, -1, pg_sys::InvalidOid);
        // What made a text of the column's type is not needed any more.
        comparison.args = with_argument(comparison.args, 1, std::ptr::from_mut(row).cast());
        comparison.opno = operator.sealed;
        comparison.opfuncid = pg_sys::get_opcode(operator.sealed);
        comparison.inputcollid = pg_sys::InvalidOid;
    }
    Ok(())
}

/// What stands for the subquery's rows in the comparison, as it is or relabelled.
///
/// # Safety
/// A node of an analysed query.
unsafe fn row_of<'a>(node: *mut pg_sys::Node) -> Option<&'a mut pg_sys::Param> {
    // SAFETY: as promised by the caller; the tag says what it is.
    unsafe {
        let is = |node: *mut pg_sys::Node, tag| !node.is_null() && pgrx::is_a(node, tag);
        let node = match is(node, pg_sys::NodeTag::T_RelabelType) {
            true => (*node.cast::<pg_sys::RelabelType>()).arg.cast(),
            false => node,
        };
        is(node, pg_sys::NodeTag::T_Param).then(|| &mut *node.cast())
    }
}

/// A subquery that is nothing but VALUES of one column.
struct Source<'a> {
    column: &'a mut pg_sys::Var,
    /// Lists of one value each.
    rows: *mut pg_sys::List,
    /// Lists of one member, for the column.
    types: *mut pg_sys::List,
    modifiers: *mut pg_sys::List,
    collations: *mut pg_sys::List,
}

impl Source<'_> {
    /// # Safety
    /// The subquery of an analysed query.
    unsafe fn of(query: *mut pg_sys::Node) -> Option<Self> {
        // SAFETY: as promised by the caller; the tags say what the nodes are.
        unsafe {
            if query.is_null() || !pgrx::is_a(query, pg_sys::NodeTag::T_Query) {
                return None;
            }
            let query = &*query.cast::<pg_sys::Query>();
            if length(query.rtable) != 1 || length(query.targetList) != 1 {
                return None;
            }
            let table = &*nth(query.rtable, 0).cast::<pg_sys::RangeTblEntry>();
            let column = (*nth(query.targetList, 0).cast::<pg_sys::TargetEntry>()).expr;
            if table.rtekind != pg_sys::RTEKind::RTE_VALUES
                || length(table.coltypes) != 1
                || length(table.coltypmods) != 1
                || length(table.colcollations) != 1
                || !pgrx::is_a(column.cast(), pg_sys::NodeTag::T_Var)
                || [query.sortClause, query.distinctClause, query.groupClause]
                    .iter()
                    .any(|clause| !clause.is_null())
                || !query.setOperations.is_null()
            {
                return None;
            }
            Some(Self {
                column: &mut *column.cast(),
                rows: table.values_lists,
                types: table.coltypes,
                modifiers: table.coltypmods,
                collations: table.colcollations,
            })
        }
    }
}

/// The sealed constants of all rows; `None` if one is not known, or if there are too many.
///
/// # Safety
/// The rows are those of [`Source`], of this type.
unsafe fn sealed_values(
    rows: *mut pg_sys::List,
    type_oid: pg_sys::Oid,
    encrypted: pg_sys::Oid,
    params: pg_sys::ParamListInfo,
) -> Result<Option<Vec<*mut pg_sys::Const>>, Error> {
    if ![pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&type_oid) {
        return Ok(None);
    }
    // SAFETY: as promised by the caller.
    unsafe {
        let is_known = |value: *mut pg_sys::Node| is_null(value) || known(value, type_oid, params).is_some();
        let values = || (0..length(rows)).map(|row| nth(nth(rows, row).cast(), 0));
        // Nothing is sealed that is not used.
        if !values().all(is_known) {
            return Ok(None);
        }
        let mut total = 0;
        let mut sealed = Vec::new();
        sealed.try_reserve_exact(values().count()).map_err(|_| Error::OutOfMemory)?;
        for value in values() {
            let null = || pg_sys::makeNullConst(encrypted, -1, pg_sys::InvalidOid);
            sealed.push(match known(value, type_oid, params) {
                Some(text) => {
                    let value = seal_unsearchable(text)?;
                    total += value.bytes().len();
                    constant(encrypted, value.datum())
                }
                None => null(),
            });
            if total > MAX_SEALED_LEN {
                return Ok(None);
            }
        }
        Ok(Some(sealed))
    }
}

/// # Safety
/// A node of an analysed query.
unsafe fn is_null(value: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised by the caller; the tag says what it is.
    unsafe {
        !value.is_null()
            && pgrx::is_a(value, pg_sys::NodeTag::T_Const)
            && (*value.cast::<pg_sys::Const>()).constisnull
    }
}
