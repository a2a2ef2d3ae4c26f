//! The second reading: writes the new dump.

use super::catalog::{Catalog, OWN_SCHEMA};
use super::definition::{Fate, LeftOut};
use super::encoding::Encoding;
use super::expression::Changes;
use super::follow::{Follow, Rows, follow, is_connect};
use super::insert::Insert;
use super::report::Report;
use super::script::{Piece, Script};
use super::source::Source;
use super::values::{Kind, Opener, may_hold_ciphertext};
use crate::copy_text::{decode, fields, push_field};
use crate::error::{Error, Result};
use crate::sql::{Name, QualifiedName, Sql, quote_identifier, quoted};
use prism_envelope::MasterKey;
use std::io::Write;

/// Writes a dump without ciphertext.
pub struct Rewrite<'a> {
    out: &'a mut dyn Write,
    /// What is told of it.
    pub report: Report,
    is_strict: bool,
    catalog: Catalog,
    opener: Opener<'a>,
    left_out: LeftOut,
    /// The table that was last filled by INSERT, and its rows so far.
    filled: (QualifiedName, u64),
}

impl<'a> Rewrite<'a> {
    /// `is_strict`: the first value that can't be opened is an error.
    ///
    /// # Errors
    /// Those of the dump and the output; [`Error::Dump`] if a value can't be opened.
    pub fn run(
        source: &Source,
        catalogs: Vec<Catalog>,
        master_keys: &'a [MasterKey],
        out: &'a mut dyn Write,
        is_strict: bool,
    ) -> Result<Report> {
        let mut script = Script::new(source.read(true)?);
        let mut catalogs = catalogs.into_iter();
        let mut next = || {
            let mut catalog = catalogs.next().unwrap_or_default();
            let keyring = std::mem::take(&mut catalog.keyring);
            (catalog, Opener::new(keyring, master_keys))
        };
        let (catalog, opener) = next();
        let mut rewrite = Self {
            out,
            report: Report::default(),
            is_strict,
            catalog,
            opener,
            left_out: LeftOut::default(),
            filled: Default::default(),
        };
        loop {
            let dialect = script.dialect;
            let Some(piece) = script.next()? else { break };
            let follows = match piece {
                Piece::Line(line) => {
                    if is_connect(line) {
                        rewrite.report.end_of_database(&rewrite.opener);
                        (rewrite.catalog, rewrite.opener) = next();
                        (rewrite.left_out, rewrite.filled) = Default::default();
                    }
                    rewrite.write(line)?;
                    continue;
                }
                Piece::Statement(statement) => {
                    let sql = Sql::new(statement, dialect);
                    let follows = follow(&sql);
                    match &follows {
                        Follow::Rows(rows) => rewrite.begin_rows(&sql, rows)?,
                        Follow::Encoding(name) if Encoding::of(name)?.is_converted() => {
                            rewrite.write(b"SET client_encoding = 'UTF8';\n")?;
                        }
                        _ => match Insert::read(&sql) {
                            Some(insert) => rewrite.insert(&sql, &insert)?,
                            None => rewrite.statement(&sql, dialect)?,
                        },
                    }
                    follows
                }
            };
            match follows {
                Follow::Statement => {}
                Follow::Encoding(name) => script.set_encoding(Encoding::of(&name)?),
                Follow::Backslashes(backslashes) => script.dialect.backslashes = backslashes,
                Follow::Rows(rows) => rewrite.rows(&mut script, &rows)?,
            }
        }
        rewrite.report.end_of_database(&rewrite.opener);
        rewrite.report.is_complete = script.is_complete();
        if is_strict && !rewrite.report.is_complete {
            return Err(Error::Dump {
                message: "the dump is not complete".to_owned(),
                detail: None,
                hint: None,
            });
        }
        Ok(rewrite.report)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Output)
    }

    fn comment(&mut self, text: &str) -> Result<()> {
        self.write(format!("-- prism-crypt: {}\n", text.replace(['\n', '\r'], " ")).as_bytes())
    }

    fn begin_rows(&mut self, sql: &Sql<'_>, rows: &Rows) -> Result<()> {
        if rows.table.schema == OWN_SCHEMA {
            return self.comment(&format!("left out: rows of {}", rows.table));
        }
        let mut changes = Changes::default();
        self.load_through_parent(sql, &rows.table, rows.name_tokens, &[], &mut changes);
        let changed = changes.apply(sql.text);
        self.write(changed.as_deref().unwrap_or(sql.text))
    }

    fn rows(&mut self, script: &mut Script, rows: &Rows) -> Result<()> {
        if rows.table.schema == OWN_SCHEMA {
            while script.next_row()?.is_some() {}
            return Ok(());
        }
        let kinds: Vec<_> = rows.columns.iter().map(|name| self.kind(&rows.table, name)).collect();
        let (before, mut number, mut line) = (self.opener.total(), 0, Vec::new());
        while let Some(row) = script.next_row()? {
            number += 1;
            if !may_hold_ciphertext(row) {
                self.write(row)?;
                self.write(b"\n")?;
                continue;
            }
            line.clear();
            for (index, field) in fields(row).enumerate() {
                let kind = kinds.get(index).copied().unwrap_or(Kind::Nested);
                let opened = decode(field).and_then(|value| self.opener.open(kind, &value));
                match opened {
                    Some(value) => push_field(&mut line, index == 0, Some(&value)),
                    None => {
                        line.extend_from_slice(if index == 0 { b"" } else { b"\t" });
                        line.extend_from_slice(field);
                    }
                }
                self.failures(&rows.table, rows.columns.get(index), number)?;
            }
            line.push(b'\n');
            self.out.write_all(&line).map_err(Error::Output)?;
        }
        self.report.rows(&rows.table, number, self.opener.total() - before);
        self.report.end_of_table();
        self.write(b"\\.\n")
    }

    fn insert(&mut self, sql: &Sql<'_>, insert: &Insert) -> Result<()> {
        if insert.table.schema == OWN_SCHEMA {
            return Ok(());
        }
        if self.filled.0 != insert.table {
            self.report.end_of_table();
            self.filled = (insert.table.clone(), 0);
        }
        let columns = self.catalog.columns(&insert.table).unwrap_or_default();
        let names: Vec<Name> = match insert.columns.is_empty() {
            true => columns.iter().map(|column| column.name.clone()).collect(),
            false => insert.columns.clone(),
        };
        let kinds: Vec<_> = names.iter().map(|name| self.kind(&insert.table, name)).collect();
        let mut changes = Changes::default();
        // The parent may have its columns in another order.
        let listed = if insert.columns.is_empty() { names.as_slice() } else { &[] };
        self.load_through_parent(sql, &insert.table, insert.name_tokens, listed, &mut changes);
        let before = self.opener.total();
        for row in &insert.rows {
            self.filled.1 += 1;
            for (index, (from, _)) in row.iter().enumerate() {
                let Some(content) = sql.literal(*from) else { continue };
                let kind = kinds.get(index).copied().unwrap_or(Kind::Nested);
                if let Some(opened) = self.opener.open(kind, &content) {
                    let token = sql.tokens[*from];
                    let has_backslashes = sql.is_escaped(*from);
                    changes.edit(token.start..token.end, &quoted(&opened, has_backslashes));
                }
                self.failures(&insert.table, names.get(index), self.filled.1)?;
            }
        }
        self.report.rows(&insert.table, insert.rows.len() as u64, self.opener.total() - before);
        let changed = changes.apply(sql.text);
        self.write(changed.as_deref().unwrap_or(sql.text))
    }

    fn statement(&mut self, sql: &Sql<'_>, dialect: crate::lexer::Dialect) -> Result<()> {
        let fate = self.left_out.fate(sql, dialect, &self.catalog, &mut self.opener);
        let title = sql.title();
        for reason in std::mem::take(&mut self.opener.failures) {
            self.report.failed_in(&title, &reason);
            self.stop_if_strict()?;
        }
        match fate {
            Fate::Same => self.write(sql.text),
            Fate::Gone => self.comment(&format!("left out: {title}")),
            Fate::Changed(text, notes, dropped) => {
                notes.iter().try_for_each(|note| self.comment(note))?;
                for what in dropped {
                    self.comment(&format!("left out: {what}"))?;
                    self.report.left_out(format!("{title}: {what}"));
                }
                self.write(&text)
            }
            Fate::LeftOut(reason) => {
                self.report.left_out(format!("{title}: {reason}"));
                self.comment(&format!("left out: {reason}"))?;
                for line in sql.text.trim_ascii().split(|byte| matches!(byte, b'\n' | b'\r')) {
                    self.write(b"-- ")?;
                    self.write(line)?;
                    self.write(b"\n")?;
                }
                Ok(())
            }
        }
    }

    fn load_through_parent(
        &self,
        sql: &Sql<'_>,
        table: &QualifiedName,
        (from, to): (usize, usize),
        columns: &[Name],
        changes: &mut Changes,
    ) {
        let Some(parent) = self.catalog.loaded_through(table) else { return };
        let name = |name: &[u8]| quote_identifier(&String::from_utf8_lossy(name));
        let mut text = format!("{}.{}", name(&parent.schema), name(&parent.name));
        if !columns.is_empty() {
            let columns: Vec<_> = columns.iter().map(|column| name(column)).collect();
            text += &format!(" ({})", columns.join(", "));
        }
        changes.edit(sql.start(from)..sql.end_before(to), text.as_bytes());
    }

    fn kind(&self, table: &QualifiedName, name: &[u8]) -> Kind {
        let columns = self.catalog.columns(table).unwrap_or_default();
        columns.iter().find(|column| column.name == name).map_or(Kind::Nested, |column| column.kind)
    }

    fn failures(&mut self, table: &QualifiedName, column: Option<&Name>, row: u64) -> Result<()> {
        for reason in std::mem::take(&mut self.opener.failures) {
            self.report.failed(table, column.map_or(b"?", Vec::as_slice), row, reason);
            self.stop_if_strict()?;
        }
        Ok(())
    }

    fn stop_if_strict(&mut self) -> Result<()> {
        if !self.is_strict {
            return Ok(());
        }
        self.report.end_of_table();
        Err(Error::Dump {
            message: "a value was not opened".to_owned(),
            detail: None,
            hint: Some("Without --strict, it stays as it is."),
        })
    }
}
