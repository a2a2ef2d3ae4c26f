//! Finds columns that look like personal data and are not encrypted.
//!
//! `sql/migration/find_plaintext.sql` goes over the tables that the caller may read, and calls `_find_plaintext_in` for each:
//!
//! 1. `target` checks that the caller may read the table, locks it, and lists its columns and partitions. Nothing of the table's
//!    owner is run: rows are read by `crate::sampling`.
//! 2. `stored` says how values of a column's type are stored, and reads them, without functions of anybody but PostgreSQL's own.
//! 3. The crate `personal-data/` judges. No value leaves it.

mod stored;
mod target;

use crate::datatype::encoding::server_is_utf8;
use crate::error::{Error, SqlResult};
use crate::sampling::{Open, Rows};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_personal_data::Column;
use target::{Attribute, Target};

/// `prism_crypt._find_plaintext_in(relation oid, sample_rows integer) → table(column_number smallint, class text, matches bigint,
/// sampled bigint, confidence text, note text)`: columns of a table, with its partitions, that look like personal data.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it, and sees through no alias")]
fn _find_plaintext_in(
    relation: pg_sys::Oid,
    sample_rows: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(column_number, i16),
            name!(class, Option<&'static str>),
            name!(matches, i64),
            name!(sampled, i64),
            name!(confidence, &'static str),
            name!(note, String),
        ),
    >,
    ErrorReport,
> {
    let columns = look_into(relation, sample_rows)?;
    let rows: Vec<_> = columns
        .into_iter()
        .filter_map(|(number, column)| column.finding().map(|finding| (number, finding)))
        .map(|(number, finding)| {
            let (matches, sampled) = (finding.matches.cast_signed(), finding.sampled.cast_signed());
            (
                number,
                finding.class,
                matches,
                sampled,
                finding.confidence.name(),
                in_server_encoding(finding.note),
            )
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// Notes are in ASCII, but for keys of documents.
fn in_server_encoding(note: String) -> String {
    if server_is_utf8() { note } else { note.replace(|c: char| !c.is_ascii(), "?") }
}

/// The columns of a table by number, with what was seen in them.
fn look_into(relation: pg_sys::Oid, sample_rows: i32) -> SqlResult<Vec<(i16, Column)>> {
    let most = u32::try_from(sample_rows).map_err(|_| Error::OutOfRange("sample_rows"))?;
    let target = Target::new(relation)?;
    let attributes = target.attributes();
    let table = target.name();
    let mut columns: Vec<Column> = attributes
        .iter()
        .map(|attribute| Column::new(&table, &attribute.name, attribute.stored.family()))
        .collect();
    let mut left = most;
    let parts = target.parts();
    for (number, part) in parts.iter().enumerate() {
        // At least one row of each.
        let wanted = left.div_ceil((parts.len() - number) as u32).max(1);
        if let Some(part) = target.open_part(*part) {
            left = left.saturating_sub(look_at(&part, wanted, &attributes, &mut columns)?);
            part.release();
        }
    }
    if let Some(table) = target.rows() {
        look_at(table, most, &attributes, &mut columns)?;
    }
    target.release();
    Ok(attributes.into_iter().map(|attribute| attribute.number).zip(columns).collect())
}

/// Shows the values of some rows to the columns. A partition has the columns of its table, in any order.
fn look_at(source: &Open, most: u32, attributes: &[Attribute], columns: &mut [Column]) -> Result<u32, Error> {
    let places: Vec<Option<usize>> = attributes.iter().map(|attribute| attribute.place_in(source)).collect();
    // SAFETY: `target` has checked that it can be read here. The values are those of columns with these types.
    unsafe {
        Rows::new(source).sample(most, &mut |values, nulls| {
            for ((attribute, place), column) in attributes.iter().zip(&places).zip(&mut *columns) {
                if let Some(place) = place.filter(|place| !nulls[*place]) {
                    attribute.stored.show(values[place], column)?;
                }
            }
            Ok(())
        })
    }
}
