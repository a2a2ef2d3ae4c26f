//! Asks, in one read-only transaction, with the rights that the role has: what it may not ask is named.

use super::connection::words_of;
use super::report::{Place, Plaintext, Report, Unfinished};
use crate::error::{Error, Result};
use postgres::types::ToSql;
use postgres::{Client, Row, Transaction};
use std::collections::BTreeMap;

/// How long it waits for a table that others have locked.
const SETTINGS: &str =
    "SET search_path = pg_catalog, pg_temp; SET lock_timeout = '5s'; SET prism_crypt.output = 'ciphertext'";

const EXTENSION: &str = "SELECT current_database()::text, current_user::text, e.extversion, n.nspname::text \
    FROM (SELECT) AS one LEFT JOIN pg_extension AS e ON e.extname = 'prism_crypt' LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace";

/// Columns of the type, of domains over it, and of arrays of these; of a partitioned table, only those of the whole. For each: where it is,
/// whether it is an array, whether the role may read it, and whether all of its rows.
const DECLARED: &str = "\
    WITH RECURSIVE types (oid, is_array) AS (
      SELECT t.oid, false FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
      WHERE t.typname = 'encrypted_text' AND n.nspname = $1
      UNION
      SELECT t.oid, types.is_array OR t.typcategory = 'A' FROM types
      JOIN pg_type AS t ON (t.typtype = 'd' AND t.typbasetype = types.oid) OR (t.typcategory = 'A' AND t.typelem = types.oid))
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), types.is_array, c.relkind = 'p',
           has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT'), row_security_active(c.oid)
    FROM types JOIN pg_attribute AS a ON a.atttypid = types.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND (c.relpersistence <> 't' OR pg_my_temp_schema() = n.oid)
    ORDER BY 1, a.attnum";

const CENSUS: &str =
    "SELECT kind, location, key_version, ciphertexts, remark FROM prism_crypt.census() ORDER BY location";

const MIGRATIONS: &str = "SELECT target, state FROM prism_crypt.migrations \
    WHERE type ~ '(^|\\.)encrypted_text' AND state NOT IN ('finished', 'rolled_back') ORDER BY id";

const PLAINTEXT: &str = "SELECT format('%I.%I', n.nspname, c.relname), quote_ident(f.column_name), f.class, f.confidence, f.note \
    FROM prism_crypt.find_plaintext(sample_rows => $1) AS f JOIN pg_class AS c ON c.oid = f.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace";

/// Looks at everything.
///
/// # Errors
/// [`Error::Server`].
pub fn survey(client: &mut Client, sample_rows: i32) -> Result<Report> {
    client.batch_execute(SETTINGS).map_err(failed)?;
    let mut transaction = client.build_transaction().read_only(true).start().map_err(failed)?;
    let row = transaction.query_one(EXTENSION, &[]).map_err(failed)?;
    let mut report = Report {
        database: get(&row, 0)?,
        role: get(&row, 1)?,
        extension_version: get(&row, 2)?,
        ..Report::default()
    };
    if let (Some(_), Some(schema)) = (&report.extension_version, get::<Option<String>>(&row, 3)?) {
        let mut survey = Survey { transaction, report };
        survey.status()?;
        survey.encrypted(&schema)?;
        survey.migrations()?;
        survey.plaintext(sample_rows)?;
        report = survey.report;
    }
    Ok(report.conclude())
}

struct Survey<'a> {
    transaction: Transaction<'a>,
    report: Report,
}

impl Survey<'_> {
    /// The rows; `None`, and a line of what was not seen, if the server refuses.
    fn ask(
        &mut self,
        what: &str,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Vec<Row>>> {
        let mut inner = self.transaction.transaction().map_err(failed)?;
        match inner.query(query, parameters) {
            Ok(rows) => {
                inner.commit().map_err(failed)?;
                Ok(Some(rows))
            }
            // Only what the server says: a connection that is lost is an error.
            Err(error) if error.as_db_error().is_some() => {
                inner.rollback().map_err(failed)?;
                self.report.not_seen.push(format!("{what}: {}", words_of(&error)));
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn status(&mut self) -> Result<()> {
        for row in
            self.ask("status", "SELECT name, setting, ok FROM prism_crypt.status()", &[])?.unwrap_or_default()
        {
            let (name, setting): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            match name.as_str() {
                "algorithm" => self.report.algorithm = Some(setting),
                "key_source" => self.report.key_source = Some(setting),
                "enabled" => self.report.enabled = Some(get(&row, 2)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// By the census if the role may, or else column by column.
    fn encrypted(&mut self, schema: &str) -> Result<()> {
        let declared = self.transaction.query(DECLARED, &[&schema]).map_err(failed)?;
        let census = self.ask("everything that is encrypted (it needs access monitor)", CENSUS, &[])?;
        let Some(census) = census else {
            return declared.iter().try_for_each(|row| self.count_column(schema, row));
        };
        let mut places: BTreeMap<(String, String), Place> = BTreeMap::new();
        for row in &declared {
            let location = format!("{}.{}", get::<String>(row, 0)?, get::<String>(row, 1)?);
            places.entry((location, "table".to_owned())).or_default();
        }
        for row in census {
            let (kind, location): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let version: Option<i32> = get(&row, 2)?;
            let (count, remark): (Option<i64>, Option<String>) = (get(&row, 3)?, get(&row, 4)?);
            let Some(count) = count else {
                let remark = remark.unwrap_or_else(|| "can't be read".to_owned());
                self.report.not_seen.push(format!("{location} ({kind}): {remark}"));
                continue;
            };
            places.entry((location, kind)).or_default().add(version, count);
        }
        self.report.encrypted.extend(places.into_iter().map(|((location, kind), place)| Place {
            location,
            kind,
            ..place
        }));
        Ok(())
    }

    fn count_column(&mut self, schema: &str, row: &Row) -> Result<()> {
        let (table, column): (String, String) = (get(row, 0)?, get(row, 1)?);
        let location = format!("{table}.{column}");
        if !get::<bool>(row, 4)? {
            self.report.not_seen.push(format!("{location}: the role may not SELECT it"));
            self.report.encrypted.push(Place {
                location,
                kind: "table".to_owned(),
                is_hidden: true,
                ..Place::default()
            });
            return Ok(());
        }
        if get::<bool>(row, 5)? {
            self.report.not_seen.push(format!("{location}: rows that row-level security hides"));
        }
        let only = if get::<bool>(row, 3)? { "" } else { "ONLY " };
        let (value, more) = match get::<bool>(row, 2)? {
            true => ("v".to_owned(), format!(", unnest(t.{column}) AS v")),
            false => (format!("t.{column}"), String::new()),
        };
        let schema = quoted(schema);
        let query = format!(
            "SELECT {schema}.key_version({value}), count(*) FROM {only}{table} AS t{more} WHERE {value} IS NOT NULL GROUP BY 1"
        );
        let mut place = Place { location: location.clone(), kind: "table".to_owned(), ..Place::default() };
        match self.ask(&location, &query, &[])? {
            Some(rows) => {
                for row in rows {
                    place.add(get(&row, 0)?, get(&row, 1)?);
                }
            }
            None => place.is_hidden = true,
        }
        self.report.encrypted.push(place);
        Ok(())
    }

    fn migrations(&mut self) -> Result<()> {
        for row in self.ask("migrations", MIGRATIONS, &[])?.unwrap_or_default() {
            self.report.unfinished.push(Unfinished { location: get(&row, 0)?, state: get(&row, 1)? });
        }
        Ok(())
    }

    fn plaintext(&mut self, sample_rows: i32) -> Result<()> {
        let what = "what is not encrypted (it needs access monitor or migrate)";
        for row in self.ask(what, PLAINTEXT, &[&sample_rows])?.unwrap_or_default() {
            let (table, column): (String, Option<String>) = (get(&row, 0)?, get(&row, 1)?);
            let note: Option<String> = get(&row, 4)?;
            let Some(column) = column else {
                self.report.not_seen.push(format!("{table}: {}", note.unwrap_or_default()));
                continue;
            };
            let location = format!("{table}.{column}");
            // A text that is encrypted begins so (docs/format.md, "Text form").
            let count = format!(
                "SELECT CASE WHEN t.{column}::text ~ '^prism:v[1-9][0-9]*:' THEN substring(t.{column}::text FROM '^prism:v([0-9]{{1,9}})')::int END, \
                 count(*) FROM {table} AS t WHERE t.{column} IS NOT NULL GROUP BY 1"
            );
            let mut place = Place { location: location.clone(), kind: "text".to_owned(), ..Place::default() };
            let mut values = 0;
            for row in self.ask(&location, &count, &[])?.unwrap_or_default() {
                match get(&row, 0)? {
                    None => values = get::<i64>(&row, 1)?.unsigned_abs(),
                    version => place.add(version, get(&row, 1)?),
                }
            }
            if values == 0 {
                self.report.encrypted.extend(Some(place).filter(|place| !place.values.is_empty()));
                continue;
            }
            let encrypted_values = place.values.values().sum();
            let (class, confidence): (Option<String>, Option<String>) = (get(&row, 2)?, get(&row, 3)?);
            if confidence.as_deref() != Some("low") || encrypted_values > 0 {
                self.report.plaintext.push(Plaintext {
                    location,
                    class,
                    confidence,
                    values,
                    encrypted_values,
                    note,
                });
            }
        }
        Ok(())
    }
}

impl Place {
    fn add(&mut self, version: Option<i32>, count: i64) {
        match version {
            Some(version) => *self.values.entry(version.unsigned_abs()).or_default() += count.unsigned_abs(),
            None => self.damaged += count.unsigned_abs(),
        }
    }
}

fn quoted(name: &str) -> String {
    crate::sql::quote_identifier(name)
}

fn get<'a, T: postgres::types::FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(failed)
}

fn failed(error: postgres::Error) -> Error {
    Error::Server { detail: words_of(&error) }
}
