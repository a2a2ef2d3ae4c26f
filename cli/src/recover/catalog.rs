//! What a dump says of a database before its rows are read: where the extension is, the columns of tables, the keys.

use super::insert::Insert;
use super::keyring::{KeyRow, Keyring};
use super::values::Kind;
use crate::sql::{Name, QualifiedName, Sql};
use prism_envelope::KeyVersion;
use std::collections::{HashMap, HashSet};

/// The schema of the extension's own tables, whose name is fixed.
pub const OWN_SCHEMA: &[u8] = b"prism_crypt";
/// The type.
pub const TYPE: &[u8] = b"encrypted_text";

const KEY_TABLE: &[u8] = b"data_key";
const CARRIER: &[u8] = b"carried_keys";
/// Types whose values are one text.
const TEXTS: [&[u8]; 8] = [b"text", b"varchar", b"character", b"char", b"bpchar", b"name", b"citext", b"xml"];
/// What may follow the type of a column.
const BEHIND_TYPE: [&str; 13] = [
    "not",
    "null",
    "default",
    "constraint",
    "check",
    "generated",
    "collate",
    "primary",
    "unique",
    "references",
    "options",
    "storage",
    "compression",
];
/// What begins a part of a table definition that is not a column.
const NOT_A_COLUMN: [&str; 7] = ["constraint", "check", "unique", "primary", "foreign", "exclude", "like"];

/// A column of a table.
#[derive(Clone)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// What its type holds.
    pub kind: Kind,
}

/// What is known of one database of a dump.
#[derive(Default)]
pub struct Catalog {
    /// The schema of the extension's type and functions.
    pub schema: Option<Name>,
    /// Its data keys.
    pub keyring: Keyring,
    /// Whether others have operators in that schema too.
    pub has_other_operators: bool,
    /// Whether it has rows of any table.
    pub has_rows: bool,
    /// Names of encrypted columns, of any table.
    pub encrypted_names: HashSet<Name>,
    /// Domains over the type, and composite types and ranges of it.
    encrypted_types: HashSet<QualifiedName>,
    tables: HashMap<QualifiedName, Vec<Column>>,
    /// Tables whose rows are distributed by the hash of an encrypted value.
    by_hash: HashSet<QualifiedName>,
    parents: HashMap<QualifiedName, QualifiedName>,
}

impl Catalog {
    /// Looks at a statement of the first reading.
    pub fn see(&mut self, sql: &Sql<'_>) {
        if self.schema.is_none() && sql.is_one_of(0, &["create", "alter"]) {
            // A dump of some tables does not say where the extension is.
            let is_type =
                |at: &usize| sql.is_byte(at + 1, b'.') && sql.name(at + 2).is_some_and(|name| name == TYPE);
            self.schema = (0..sql.tokens.len()).find(is_type).and_then(|at| sql.name(at));
        }
        if sql.are(0, &["create", "extension"]) {
            self.see_extension(sql);
        } else if sql.is(0, "create") && sql.is_one_of(1, &["domain", "type"]) {
            if let Some((name, at)) = sql.qualified(2)
                && self.names_type(sql, at, sql.tokens.len())
            {
                self.encrypted_types.insert(name);
            }
        } else if let Some((table, open)) = created_table(sql) {
            self.see_table(sql, table, open);
        } else if sql.are(0, &["create", "operator"]) {
            let at = if sql.is_one_of(2, &["class", "family"]) { 3 } else { 2 };
            self.has_other_operators |= self.schema.is_some() && sql.name(at) == self.schema;
        } else if sql.are(0, &["alter", "table"]) {
            self.see_partition(sql);
        } else if sql.are(0, &["create", "view"]) {
            self.see_carrier(sql);
        } else if let Some(insert) = Insert::read(sql).filter(|insert| is_key_table(&insert.table)) {
            let own = KEY_COLUMNS.iter().map(|name| name.to_vec()).collect();
            let names = if insert.columns.is_empty() { own } else { insert.columns.clone() };
            for row in &insert.rows {
                let values: Vec<_> = row.iter().map(|value| insert.text(sql, *value)).collect();
                self.add_key(&names, &values);
            }
        }
    }

    /// The columns of a table, if it was defined before.
    pub fn columns(&self, table: &QualifiedName) -> Option<&[Column]> {
        self.tables.get(table).map(Vec::as_slice)
    }

    /// The table through which the rows of another one must be loaded: by the hash of text they are in another partition than by that of
    /// the encrypted value.
    pub fn loaded_through(&self, table: &QualifiedName) -> Option<&QualifiedName> {
        let (mut at, mut found) = (table, None);
        while let Some(parent) = self.parents.get(at) {
            if self.by_hash.contains(parent) {
                found = Some(parent);
            }
            at = parent;
        }
        found
    }

    /// Adds a row of the key table, given the names of its columns. False if it is none.
    pub fn add_key(&mut self, names: &[Name], values: &[Option<Vec<u8>>]) -> bool {
        let column = |wanted: &str| {
            let at = names.iter().position(|name| name == wanted.as_bytes())?;
            values.get(at)?.as_deref()
        };
        let row = KeyRow::read(column);
        let is_key = row.is_some();
        row.into_iter().for_each(|row| self.keyring.add(row));
        is_key
    }

    fn see_extension(&mut self, sql: &Sql<'_>) {
        let at = sql.skip(2, &["if", "not", "exists"]);
        let schema =
            (at + 1..sql.tokens.len()).find(|at| sql.is(*at, "schema")).and_then(|at| sql.name(at + 1));
        if sql.name(at).as_deref() == Some(OWN_SCHEMA) {
            self.schema = schema;
        } else {
            self.has_other_operators |= schema.is_some() && (self.schema.is_none() || schema == self.schema);
        }
    }

    fn see_table(&mut self, sql: &Sql<'_>, table: QualifiedName, open: usize) {
        let Some(close) = sql.closing(open) else { return };
        let mut columns = Vec::new();
        if sql.is(close + 1, "inherits")
            && let Some(end) = sql.closing(close + 2)
        {
            for (from, _) in sql.parts(close + 2, end) {
                let parent = sql.qualified(from).and_then(|(parent, _)| self.tables.get(&parent));
                columns.extend(parent.into_iter().flatten().cloned());
            }
        }
        for (from, to) in sql.parts(open, close) {
            if !sql.is_one_of(from, &NOT_A_COLUMN)
                && let Some(name) = sql.name(from)
            {
                let kind = self.kind(sql, from + 1, type_end(sql, from + 1, to));
                if self.names_type(sql, from + 1, type_end(sql, from + 1, to)) {
                    self.encrypted_names.insert(name.clone());
                }
                match columns.iter_mut().find(|column: &&mut Column| column.name == name) {
                    Some(inherited) => inherited.kind = kind,
                    None => columns.push(Column { name, kind }),
                }
            }
        }
        if let Some(by) = (close..sql.tokens.len()).find(|at| sql.are(*at, &["partition", "by", "hash"])) {
            let is_encrypted = |at| sql.name(at).is_some_and(|name| self.encrypted_names.contains(&name));
            if (by + 3..sql.tokens.len()).any(is_encrypted) {
                self.by_hash.insert(table.clone());
            }
        }
        self.tables.insert(table, columns);
    }

    fn see_partition(&mut self, sql: &Sql<'_>) {
        let at = sql.skip(2, &["only", "if", "exists"]);
        let Some((parent, at)) = sql.qualified(at) else { return };
        if sql.are(at, &["attach", "partition"])
            && let Some((child, _)) = sql.qualified(at + 2)
        {
            self.parents.insert(child, parent);
        }
    }

    /// The view by which dumps carry the keys at their beginning.
    fn see_carrier(&mut self, sql: &Sql<'_>) {
        let is_carrier = |name: QualifiedName| name.schema == OWN_SCHEMA && name.name == CARRIER;
        if !sql.qualified(2).is_some_and(|(name, _)| is_carrier(name)) {
            return;
        }
        let literal = (4..sql.tokens.len()).find_map(|at| sql.literal(at));
        let rows = literal.and_then(|text| serde_json::from_slice::<Vec<CarriedKey>>(&text).ok());
        for row in rows.into_iter().flatten() {
            if let (Some(version), Ok(wrapped)) =
                (row.version.and_then(KeyVersion::new), hex::decode(row.wrapped))
            {
                let CarriedKey { keyset, state, master_fingerprint, .. } = row;
                self.keyring.add(KeyRow { version, keyset, state, wrapped, master_fingerprint });
            }
        }
    }

    /// What a type holds, that is written from one token up to another.
    fn kind(&self, sql: &Sql<'_>, from: usize, to: usize) -> Kind {
        let Some((name, after)) = sql.qualified(from) else { return Kind::Nested };
        let end =
            if sql.is_byte(after, b'(') { sql.closing(after).map_or(to, |close| close + 1) } else { after };
        let is_array = (end..to).any(|at| sql.is_byte(at, b'['));
        let is_builtin = name.schema.is_empty() || name.schema == b"pg_catalog" || name.name == b"citext";
        let kind = if name.name == TYPE && Some(&name.schema) == self.schema.as_ref() {
            Kind::Encrypted
        } else if is_builtin && name.name == b"bytea" {
            Kind::Bytes
        } else if is_builtin && TEXTS.contains(&name.name.as_slice()) {
            Kind::Text
        } else if self.names_type(sql, from, to) {
            Kind::EncryptedParts
        } else {
            Kind::Nested
        };
        match kind {
            kind if !is_array => kind,
            Kind::Encrypted | Kind::EncryptedParts => Kind::EncryptedParts,
            _ => Kind::Nested,
        }
    }

    fn names_type(&self, sql: &Sql<'_>, from: usize, to: usize) -> bool {
        let is_type = |name: QualifiedName| {
            (name.name == TYPE && !name.schema.is_empty()) || self.encrypted_types.contains(&name)
        };
        (from..to).any(|at| sql.qualified(at).is_some_and(|(name, _)| is_type(name)))
    }
}

/// The columns of `prism_crypt.data_key`, for rows that don't name them.
const KEY_COLUMNS: [&[u8]; 5] = [b"version", b"keyset", b"state", b"wrapped", b"master_fingerprint"];

#[derive(serde::Deserialize)]
struct CarriedKey {
    version: Option<u32>,
    keyset: String,
    state: String,
    wrapped: String,
    master_fingerprint: String,
}

/// Whether it is the table of data keys.
pub fn is_key_table(table: &QualifiedName) -> bool {
    table.schema == OWN_SCHEMA && table.name == KEY_TABLE
}

/// The table that a statement makes, and the token of the parenthesis that its columns begin with.
pub fn created_table(sql: &Sql<'_>) -> Option<(QualifiedName, usize)> {
    if !sql.is(0, "create") {
        return None;
    }
    let at = sql.skip(1, &["unlogged", "foreign", "temporary", "temp", "global", "local"]);
    let at = sql.is(at, "table").then(|| sql.skip(at + 1, &["if", "not", "exists"]))?;
    let (table, open) = sql.qualified(at)?;
    sql.is_byte(open, b'(').then_some((table, open))
}

/// Where the type of a column ends.
pub fn type_end(sql: &Sql<'_>, from: usize, to: usize) -> usize {
    (from + 1..to).find(|at| sql.is_one_of(*at, &BEHIND_TYPE)).unwrap_or(to)
}
