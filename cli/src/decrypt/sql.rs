//! A table as statements for psql. What a file says of its table may be written by a stranger: names are quoted, and `name` and
//! `expression` say what of the rest becomes a part of a statement.

use super::expression::expression;
use super::name;
use crate::error::{Error, Result};
use crate::output::{flush, printable, write};
use crate::sql::{quote_identifier, quoted};
use crate::table::{Column, Generated, Identity, Sequence, Table};
use std::io::{self, Write};

/// psql must not go on after an error: where a COPY does not begin, it would take rows for statements.
const SETTINGS: &str = "\\set ON_ERROR_STOP on\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\
     SET DateStyle = 'ISO, YMD';\nSET IntervalStyle = 'postgres';\n";

/// Where tables are made that have no schema. The setting is for statements that psql puts no variables into.
const SCHEMA: &str = "SELECT pg_catalog.set_config('prism_decrypt.schema', pg_catalog.current_schema(), false) AS prism_schema \\gset\n";

/// Then what has no schema is PostgreSQL's own, whatever others have made.
const PATH: &str = "SET search_path = pg_catalog, pg_temp;\n\n";

/// Writes `CREATE TABLE`, `COPY`, defaults and where sequences are. What is not made of a definition is told of.
///
/// # Errors
/// [`Error::Column`], [`Error::TableName`], [`Error::Usage`], [`Error::Row`], [`Error::Penc`], [`Error::Output`].
pub fn write_table(
    mut table: Table,
    given: Option<&str>,
    keep_types: bool,
    out: &mut impl Write,
) -> Result<()> {
    let definition = &table.definition;
    let name = Name::of(given, &definition.collection)?;
    let mut columns = Vec::new();
    let mut behind = Vec::new();
    for column in &definition.columns {
        columns.extend(column_definition(column, keep_types)?.map(|definition| format!("  {definition}")));
        behind.extend(default_statement(&name, column, keep_types));
        behind.extend(position_statement(&name, column));
    }
    let fields: Vec<String> = definition.fields().map(|column| quote_identifier(&column.name)).collect();
    let of_psql = name.of_psql();
    let schema = if name.schema.is_none() { SCHEMA } else { "" };
    let start = format!("{SETTINGS}{schema}{PATH}CREATE TABLE {of_psql} (\n{}\n);\n\n", columns.join(",\n"));
    write(out, start.as_bytes())?;
    if fields.is_empty() {
        // COPY takes no empty list of columns.
        while table.next_row()?.is_some() {
            write(out, format!("INSERT INTO {of_psql} DEFAULT VALUES;\n").as_bytes())?;
        }
    } else {
        write(out, format!("COPY {of_psql} ({}) FROM stdin;\n", fields.join(", ")).as_bytes())?;
        while let Some(row) = table.next_row()? {
            write(out, row)?;
            write(out, b"\n")?;
        }
        write(out, b"\\.\n")?;
    }
    for statement in behind {
        write(out, b"\n")?;
        write(out, statement.as_bytes())?;
    }
    flush(out)
}

/// A table's, in quotes.
struct Name {
    schema: Option<String>,
    name: String,
}

impl Name {
    /// The one that was given, or the file's; that is a name in any case.
    fn of(given: Option<&str>, collection: &str) -> Result<Self> {
        let (schema, name) = match given {
            Some(given) => name::qualified(given)
                .ok_or_else(|| Error::Usage("--table is a name, with or without its schema".to_owned()))?,
            None if collection.contains('\0') => return Err(Error::TableName),
            None => name::qualified(collection).unwrap_or((None, quote_identifier(collection))),
        };
        Ok(Self { schema, name })
    }

    /// As psql replaces it.
    fn of_psql(&self) -> String {
        format!("{}.{}", self.schema.as_deref().unwrap_or(":\"prism_schema\""), self.name)
    }

    /// An expression that gives it.
    fn expression(&self) -> String {
        match &self.schema {
            Some(schema) => literal(&format!("{schema}.{}", self.name)),
            None => format!(
                "pg_catalog.format('%I', pg_catalog.current_setting('prism_decrypt.schema')) || {}",
                literal(&format!(".{}", self.name))
            ),
        }
    }
}

/// A constant, in a form that is right whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    String::from_utf8_lossy(&quoted(text.as_bytes(), text.contains('\\'))).into_owned()
}

/// `None` for one that is left out.
fn column_definition(column: &Column, keep_types: bool) -> Result<Option<String>> {
    let malformed = |part| Error::Column { column: column.name.clone(), part };
    if column.name.contains('\0') {
        return Err(malformed("name"));
    }
    let sql_type = type_of(column, keep_types).ok_or_else(|| malformed("type"))?;
    let mut definition = format!("{} {sql_type}", quote_identifier(&column.name));
    if let Some(collation) = &column.collation {
        let collation = name::collation(collation).ok_or_else(|| malformed("collation"))?;
        definition.push_str(&format!(" COLLATE {collation}"));
    }
    if column.not_null {
        definition.push_str(" NOT NULL");
    }
    if let Some(identity) = column.identity {
        let kind = if identity == Identity::Always { "ALWAYS" } else { "BY DEFAULT" };
        let options = column.sequence.as_ref().map(sequence_options).unwrap_or_default();
        definition.push_str(&format!(" GENERATED {kind} AS IDENTITY{options}"));
    }
    if let Some(generated) = column.generated {
        let kind = if generated == Generated::Stored { "STORED" } else { "VIRTUAL" };
        match expression(column.expression.as_deref().unwrap_or_default()) {
            Ok(expression) => definition.push_str(&format!(" GENERATED ALWAYS AS ({expression}) {kind}")),
            Err(reason) => {
                warn(column, "is left out: of what it is generated from", reason);
                return Ok(None);
            }
        }
    }
    Ok(Some(definition))
}

fn sequence_options(sequence: &Sequence) -> String {
    let numbers = [
        ("START WITH", sequence.start),
        ("INCREMENT BY", sequence.increment),
        ("MINVALUE", sequence.minimum),
        ("MAXVALUE", sequence.maximum),
        ("CACHE", sequence.cache),
    ];
    let numbers = numbers.iter().filter_map(|(word, number)| Some(format!("{word} {} ", (*number)?)));
    format!(" ({}{})", numbers.collect::<String>(), if sequence.cycle { "CYCLE" } else { "NO CYCLE" })
}

/// What was encrypted is text now, or an array of it. `None` for what is no type.
fn type_of(column: &Column, keep_types: bool) -> Option<String> {
    let is_array = column.sql_type.ends_with("[]");
    match column.encrypted {
        Some(_) if !keep_types => Some(if is_array { "text[]" } else { "text" }.to_owned()),
        _ => name::sql_type(&column.sql_type),
    }
}

fn default_statement(table: &Name, column: &Column, keep_types: bool) -> Option<String> {
    let text = column.expression.as_ref().filter(|_| keep_types || column.encrypted.is_none())?;
    if column.generated.is_some() {
        return None;
    }
    match expression(text) {
        Ok(expression) => {
            let action =
                format!(" ALTER COLUMN {} SET DEFAULT ({expression})", quote_identifier(&column.name));
            let statement =
                format!("EXECUTE 'ALTER TABLE ' || {} || {}", table.expression(), literal(&action));
            Some(block(&statement, "a column gets no default"))
        }
        Err(reason) => {
            warn(column, "gets no default: of its own", reason);
            None
        }
    }
}

/// Sets where the sequence of a column is.
fn position_statement(table: &Name, column: &Column) -> Option<String> {
    let sequence = column.sequence.filter(|_| column.identity.is_some())?;
    let statement = format!(
        "PERFORM pg_catalog.setval(pg_catalog.pg_get_serial_sequence({}, {}), {}, {})",
        table.expression(),
        literal(&column.name),
        sequence.last?,
        sequence.called.unwrap_or(true)
    );
    Some(block(&statement, "a sequence begins anew"))
}

/// A statement whose error is a warning.
fn block(statement: &str, warning: &str) -> String {
    let block = format!(
        "BEGIN\n  {statement};\nEXCEPTION WHEN OTHERS THEN\n  RAISE WARNING '{warning}: %', SQLERRM;\nEND"
    );
    let mut quotes = "$block$".to_owned();
    while block.contains(&quotes) {
        quotes.insert(1, '_');
    }
    format!("DO {quotes}\n{block}\n{quotes};\n")
}

fn warn(column: &Column, what: &str, reason: &str) {
    let line = format!("prism-crypt: column \"{}\" {what}, {reason}\n", printable(&column.name));
    // There is nobody else to tell.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{Name, block, default_statement, type_of};
    use crate::table::{Column, Encrypted};

    fn column(sql_type: &str, encrypted: Option<Encrypted>, expression: Option<&str>) -> Column {
        Column {
            encrypted,
            expression: expression.map(str::to_owned),
            ..Column::of_type("a \"b\"", sql_type)
        }
    }

    #[test]
    fn what_was_encrypted_is_text() {
        for (sql_type, encrypted, keep_types, expected) in [
            ("public.encrypted_text(email)", Some(Encrypted::Opened), false, "text"),
            ("public.encrypted_text[]", Some(Encrypted::Ciphertext), false, "text[]"),
            ("public.encrypted_text", Some(Encrypted::Opened), true, "public.encrypted_text"),
            ("numeric(10,2)", None, false, "numeric(10,2)"),
        ] {
            let column = column(sql_type, encrypted, None);
            assert_eq!(type_of(&column, keep_types).as_deref(), Some(expected));
        }
    }

    #[test]
    fn names_and_blocks_are_quoted() {
        assert!(block("'$block$ $_block$'", "").starts_with("DO $__block$\n"));
        let name = Name { schema: Some("\"s\"".to_owned()), name: "\"it's\"".to_owned() };
        let statement = default_statement(&name, &column("text", None, Some("'x'")), false);
        let expected = "EXECUTE 'ALTER TABLE ' || '\"s\".\"it''s\"' || ' ALTER COLUMN \"a \"\"b\"\"\" SET DEFAULT (''x'')';";
        assert!(statement.is_some_and(|statement| statement.contains(expected)));
    }
}
