//! What a query would read and give: `_query_columns`, and the relations that the audit log names.

use crate::datum::{Text, TextResult};
use crate::error::Error;
use crate::privilege::require_execute;
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgList, PgTupleDesc};
use std::ffi::{CStr, CString};
use std::ptr::null_mut;

/// The text of a query, as PostgreSQL takes it.
pub fn as_query(query: Text<'_>) -> Result<CString, Error> {
    CString::new(query.0.bytes()).map_err(|_| Error::Internal("a query with a zero byte"))
}

/// A prepared query.
pub struct Plan(pub pg_sys::SPIPlanPtr);

impl Plan {
    /// Parses a query with the rights and the search path of the moment, and passes it on, connected to SPI.
    pub fn with<T>(query: &CStr, see: impl FnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        // SAFETY: inside a transaction, connected to SPI, whose memory the plan is in.
        Spi::connect(|_| unsafe {
            let options = pg_sys::CURSOR_OPT_NO_SCROLL.cast_signed();
            let plan = pg_sys::SPI_prepare_cursor(query.as_ptr(), 0, null_mut(), options);
            if plan.is_null() {
                return Err(Error::Internal("a query could not be prepared"));
            }
            let seen = see(&Self(plan))?;
            pg_sys::SPI_freeplan(plan);
            Ok(seen)
        })
    }

    fn sources(&self) -> PgList<pg_sys::CachedPlanSource> {
        // SAFETY: a valid plan; the list belongs to it.
        unsafe { PgList::from_pg(pg_sys::SPI_plan_get_plan_sources(self.0)) }
    }

    /// The table whose row-level security may hide rows from the current role, if there is one.
    pub fn limited_relation(&self) -> Option<pg_sys::Oid> {
        self.relations().into_iter().find(|relation| {
            // SAFETY: catalog look-ups.
            let state = unsafe { pg_sys::check_enable_rls(*relation, pg_sys::InvalidOid, true) };
            state.cast_unsigned() == pg_sys::CheckEnableRlsResult::RLS_ENABLED
        })
    }

    /// The tables and views that it reads, also those that views lead to; without what functions read.
    pub fn relations(&self) -> Vec<pg_sys::Oid> {
        let mut found = Vec::new();
        for source in self.sources().iter_ptr() {
            // SAFETY: a member of a valid plan; a list of OIDs, or null.
            unsafe {
                let list = (*source).relationOids;
                let length = if list.is_null() { 0 } else { usize::try_from((*list).length).unwrap_or(0) };
                for at in 0..length {
                    let relation = (*(*list).elements.add(at)).oid_value;
                    if !found.contains(&relation) {
                        found.push(relation);
                    }
                }
            }
        }
        found
    }
}

/// `prism_crypt._query_columns(query text, OUT name text, OUT type oid, OUT modifier integer)`: the columns of a query, in their order. It is not run.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it as it is written")]
fn _query_columns(
    query: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<'static, (name!(name, TextResult), name!(type_oid, pg_sys::Oid), name!(modifier, i32))>,
    ErrorReport,
> {
    require_execute(fcinfo)?;
    let columns = Plan::with(&as_query(query)?, |plan| {
        let mut columns = Vec::new();
        for source in plan.sources().iter_ptr() {
            // SAFETY: a member of a valid plan; the names are copied before it is freed.
            unsafe {
                if (*source).resultDesc.is_null() || !pg_sys::SPI_is_cursor_plan(plan.0) {
                    return Err(Error::ExportSource);
                }
                for column in PgTupleDesc::from_pg_unchecked((*source).resultDesc).iter() {
                    let name = CStr::from_ptr(column.attname.data.as_ptr()).to_owned();
                    columns.push((name, column.atttypid, column.atttypmod));
                }
            }
        }
        Ok(columns)
    })?;
    let copied = columns
        .into_iter()
        .map(|(name, kind, modifier)| Ok((TextResult(Varlena::copy_of(name.to_bytes())?), kind, modifier)));
    Ok(TableIterator::new(copied.collect::<Result<Vec<_>, Error>>()?))
}
