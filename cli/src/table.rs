//! The content of a table (docs/file-format.md): its definition, and rows.

use crate::copy_text::fields;
use crate::error::{Error, Result};
use prism_envelope::file::FileError;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use zeroize::Zeroizing;

/// The longest definition in bytes, as for the extension.
const MAX_DEFINITION: u64 = 16 << 20;

/// The first line of the content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Definition {
    /// The name of the table as SQL writes it, or `query`.
    pub collection: String,
    /// In the order of the fields.
    pub columns: Vec<Column>,
}

/// A column. Those that are generated have no field.
#[derive(Debug, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// As SQL writes it, with its schema and modifier.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// With its schema, if it is not that of the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<Encrypted>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_null: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// What the rows have of an encrypted column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encrypted {
    Opened,
    Ciphertext,
}

/// Who numbers the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    #[serde(rename = "always")]
    Always,
    #[serde(rename = "by default")]
    ByDefault,
}

/// The sequence of an identity column.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sequence {
    pub start: Option<i64>,
    pub increment: Option<i64>,
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
    pub cache: Option<i64>,
    #[serde(default)]
    pub cycle: bool,
    /// The value that was given last, or, if `called` is `false`, comes next.
    pub last: Option<i64>,
    pub called: Option<bool>,
}

/// Where a generated column is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    Stored,
    Virtual,
}

impl Column {
    /// One that has nothing but a name and a type.
    pub fn of_type(name: &str, sql_type: &str) -> Self {
        Self {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            collation: None,
            encrypted: None,
            not_null: false,
            identity: None,
            sequence: None,
            generated: None,
            expression: None,
        }
    }
}

impl Definition {
    /// The columns that rows have fields for.
    pub fn fields(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.generated.is_none())
    }

    /// As the line that a content begins with.
    ///
    /// # Errors
    /// [`Error::Penc`].
    pub fn to_line(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self).map_err(|_| FileError::Header)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// A table that is read.
pub struct Table {
    content: BufReader<Box<dyn Read>>,
    pub definition: Definition,
    row: Zeroizing<Vec<u8>>,
    /// How many rows were read.
    pub rows: u64,
}

impl Table {
    /// Reads the definition.
    ///
    /// # Errors
    /// [`Error::Penc`].
    pub fn of(content: Box<dyn Read>) -> Result<Self> {
        match Self::recognize(content)? {
            Recognized::Table(table) => Ok(table),
            Recognized::Other(_) => Err(FileError::Header.into()),
        }
    }

    /// Whether there is one. What is no table was read for up to a line.
    ///
    /// # Errors
    /// [`Error::Penc`].
    pub fn recognize(content: Box<dyn Read>) -> Result<Recognized> {
        let mut content = BufReader::with_capacity(1 << 16, content);
        let mut line = Zeroizing::new(Vec::new());
        content.by_ref().take(MAX_DEFINITION).read_until(b'\n', &mut line).map_err(Error::content)?;
        let definition = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
        Ok(match definition {
            Some(definition) => {
                Recognized::Table(Self { content, definition, row: Zeroizing::default(), rows: 0 })
            }
            None => Recognized::Other(content),
        })
    }

    /// The next row as `COPY` has it, without its newline; it has as many fields as the definition says, and is UTF-8. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Penc`], [`Error::Row`].
    pub fn next_row(&mut self) -> Result<Option<&[u8]>> {
        self.row.clear();
        self.content.read_until(b'\n', &mut self.row).map_err(Error::content)?;
        if self.row.is_empty() {
            return Ok(None);
        }
        self.rows += 1;
        if self.row.last() == Some(&b'\n') {
            self.row.pop();
        }
        let bad = |detail| Err(Error::Row { row: self.rows, detail });
        // To psql, that is the end of the rows, and what follows are statements.
        if self.row.starts_with(b"\\.") {
            return bad("It ends the rows of a COPY.");
        }
        // psql would take the end of the line for a part of the row, and not see the end of the rows.
        if self.row.contains(&0) {
            return bad("It has a zero byte.");
        }
        if self.row.contains(&b'\r') {
            return bad("It has a carriage return.");
        }
        // A row of a table without columns is an empty line.
        let expected = self.definition.fields().count();
        let found = if expected == 0 && self.row.is_empty() { 0 } else { fields(&self.row).count() };
        if found != expected {
            return bad("It has not as many fields as there are columns.");
        }
        if std::str::from_utf8(&self.row).is_err() {
            return bad("It is not UTF-8.");
        }
        Ok(Some(&self.row))
    }
}

/// What a content is.
pub enum Recognized {
    Table(Table),
    Other(BufReader<Box<dyn Read>>),
}
