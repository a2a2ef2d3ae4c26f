//! Statements other than rows: carried over, changed, or left out.

use super::catalog::{Catalog, OWN_SCHEMA, TYPE, created_table, type_end};
use super::expression::{Changes, Rewriter};
use super::signature::{Signature, signature};
use super::values::Opener;
use crate::lexer::Dialect;
use crate::sql::{Name, QualifiedName, Sql};
use std::collections::HashSet;

/// What becomes of a statement.
pub enum Fate {
    /// It stays as it is.
    Same,
    /// It is about the extension itself.
    Gone,
    /// It is replaced by this text, and these are what is different in it, and what was left out of it.
    Changed(Vec<u8>, Vec<String>, Vec<String>),
    /// It can't be carried over, for this reason.
    LeftOut(String),
}

/// What was left out of a database so far, so that what uses it is left out too.
#[derive(Default)]
pub struct LeftOut {
    objects: HashSet<QualifiedName>,
    /// Triggers, policies and constraints, which belong to a table.
    parts: HashSet<(Name, QualifiedName)>,
    /// The functions that are there.
    functions: HashSet<Signature>,
}

/// Functions of the extension, by whose names privileges are known to be on them.
const OWN_FUNCTIONS: [&[u8]; 17] = [
    b"encrypt_field",
    b"decrypt_field",
    b"try_decrypt_field",
    b"reencrypt_field",
    b"encrypt_bytes",
    b"decrypt_bytes",
    b"reencrypt_bytes",
    b"mask_field",
    b"key_version",
    b"envelope_info",
    b"blind_index",
    b"rotate_batch",
    b"generate_key",
    b"text",
    b"varchar",
    b"bpchar",
    b"name",
];

impl LeftOut {
    /// What becomes of a statement.
    pub fn fate(
        &mut self,
        sql: &Sql<'_>,
        dialect: Dialect,
        catalog: &Catalog,
        opener: &mut Opener<'_>,
    ) -> Fate {
        if is_own(sql, catalog) {
            return Fate::Gone;
        }
        if let Some(reason) = self.part_left_out(sql) {
            return Fate::LeftOut(reason);
        }
        let mut changes = Rewriter { catalog, left_out: &self.objects, dialect, opener }.statement(sql);
        let mut dropped = Vec::new();
        if !changes.problems.is_empty() {
            if let Some((_, open)) = created_table(sql) {
                drop_clauses_of_table(sql, open, &mut changes, &mut dropped);
            } else if sql.are(0, &["create", "domain"]) {
                drop_clauses_of_domain(sql, &mut changes, &mut dropped);
            }
        }
        if let Some((_, problem)) = changes.problems.first() {
            let reason = problem.clone();
            self.remember(sql);
            return Fate::LeftOut(reason);
        }
        let changed = changes.apply(sql.text);
        let made = signature(&Sql::new(changed.as_deref().unwrap_or(sql.text), dialect));
        if let Some(made) = made
            && !self.functions.insert(made)
        {
            return Fate::LeftOut("there is the same function for text".to_owned());
        }
        match changed {
            Some(text) => Fate::Changed(text, std::mem::take(&mut changes.notes), dropped),
            None => Fate::Same,
        }
    }

    /// Remembers what a statement would have made.
    fn remember(&mut self, sql: &Sql<'_>) {
        let kinds = [
            "view",
            "function",
            "procedure",
            "aggregate",
            "type",
            "domain",
            "index",
            "trigger",
            "policy",
            "table",
        ];
        let is_create = sql.is(0, "create");
        let Some(at) = (1..5).find(|at| sql.is_one_of(*at, &kinds)) else { return };
        let kind = sql.bytes(at).to_ascii_lowercase();
        if sql.are(0, &["create", "event", "trigger"]) {
            self.parts.extend(sql.name(3).map(|name| (name, QualifiedName::default())));
            return;
        }
        let at = sql.skip(at + 1, &["concurrently", "if", "not", "exists", "only"]);
        let Some((name, after)) = sql.qualified(at) else { return };
        let table = || {
            let on = (after..sql.tokens.len()).find(|at| sql.is(*at, "on"))?;
            sql.qualified(sql.skip(on + 1, &["only"])).map(|(table, _)| table)
        };
        match kind.as_slice() {
            b"trigger" | b"policy" => self.parts.extend(table().map(|table| (name.name, table))),
            // An index is in the schema of its table.
            b"index" => self
                .objects
                .extend(table().map(|table| QualifiedName { schema: table.schema, name: name.name })),
            b"table" if sql.are(after, &["add", "constraint"]) => {
                self.parts.extend(sql.name(after + 2).map(|constraint| (constraint, name)));
            }
            _ if is_create => {
                self.objects.insert(name);
            }
            _ => {}
        }
    }

    /// Why a statement about a part of a table, or an event trigger, has nothing to be about.
    fn part_left_out(&self, sql: &Sql<'_>) -> Option<String> {
        let event = (1..3).find(|at| sql.are(*at, &["event", "trigger"]));
        let (part, table) = if let Some(at) = event {
            (sql.name(at + 2)?, QualifiedName::default())
        } else if sql.are(0, &["comment", "on"]) && sql.is_one_of(2, &["trigger", "policy", "constraint"]) {
            (sql.name(3)?, sql.qualified(sql.skip(5, &["domain"]))?.0)
        } else if sql.is(0, "alter") && sql.is_one_of(1, &["trigger", "policy"]) {
            (sql.name(2)?, sql.qualified(4)?.0)
        } else if sql.are(0, &["alter", "table"]) {
            let (table, at) = sql.qualified(sql.skip(2, &["only", "if", "exists"]))?;
            let behind = sql.skip(at, &["enable", "disable", "always"]);
            let index = sql.skip(at, &["cluster", "on", "replica", "identity", "using", "index"]);
            let trigger = sql.is(sql.skip(behind, &["replica"]), "trigger");
            let part = if trigger { sql.skip(behind, &["replica", "trigger"]) } else { index };
            let part = (part > at).then(|| sql.name(part)).flatten()?;
            let name = QualifiedName { schema: table.schema.clone(), name: part.clone() };
            if !trigger && self.objects.contains(&name) {
                return Some(format!("it uses {name}, which is left out"));
            }
            (part, table)
        } else {
            return None;
        };
        let is_left_out = self.parts.contains(&(part.clone(), table));
        is_left_out.then(|| format!("{} is left out", String::from_utf8_lossy(&part)))
    }
}

/// Whether a statement is about the extension, or something of it.
fn is_own(sql: &Sql<'_>, catalog: &Catalog) -> bool {
    let is_extension = |at| sql.name(at).as_deref() == Some(OWN_SCHEMA);
    let extension = (0..3).find(|at| sql.is(*at, "extension"));
    if let Some(at) = extension {
        return is_extension(sql.skip(at + 1, &["if", "not", "exists"]));
    }
    if sql.is(0, "alter")
        && (2..sql.tokens.len())
            .any(|at| sql.are(at, &["depends", "on", "extension"]) && is_extension(at + 3))
    {
        return true;
    }
    if sql.is_one_of(0, &["grant", "revoke"]) {
        let is_function = |name: &QualifiedName| {
            Some(&name.schema) == catalog.schema.as_ref()
                && (OWN_FUNCTIONS.contains(&name.name.as_slice()) || name.name.starts_with(TYPE))
        };
        return (1..sql.tokens.len()).any(|at| match sql.qualified(at + 1) {
            Some((name, _)) if sql.is_one_of(at, &["function", "procedure", "type"]) => {
                name.schema == OWN_SCHEMA || is_function(&name)
            }
            Some((name, _)) if sql.is(at, "schema") => name.name == OWN_SCHEMA,
            Some((name, _)) => name.schema == OWN_SCHEMA,
            None => false,
        });
    }
    if sql.is(0, "select") {
        // setval() of its sequences.
        let is_own_name = |text: Vec<u8>| {
            let name = Sql::new(&text, Dialect::default()).qualified(0);
            name.is_some_and(|(name, _)| name.schema == OWN_SCHEMA)
        };
        // Statistics: pg_restore_relation_stats() and others.
        let is_statistics = sql.name(5).is_some_and(|name| name.starts_with(b"pg_restore_"));
        let is_own_schema = |at| sql.literal(at).is_some_and(|text| text == OWN_SCHEMA);
        return (0..6).any(|at| sql.literal(at).is_some_and(is_own_name))
            || (is_statistics && (6..sql.tokens.len()).any(is_own_schema));
    }
    // ALTER DATABASE … SET "prism_crypt.keyset"
    let is_setting =
        |at| sql.is(at, "set") && sql.name(at + 1).is_some_and(|name| name.starts_with(b"prism_crypt."));
    if sql.is(0, "alter") && sql.is_one_of(1, &["database", "role"]) {
        return (2..8).any(is_setting);
    }
    // CREATE, ALTER, COMMENT ON, DROP … of what is in its schema; ALTER PUBLICATION … ADD TABLE.
    let is_kind =
        |at| sql.is_one_of(at, &["view", "table", "sequence", "schema", "function", "type", "trigger"]);
    let is_definition = sql.is_one_of(0, &["create", "alter", "comment", "drop", "refresh"]);
    is_definition
        && (1..7).find(|at| is_kind(*at)).is_some_and(|at| {
            let name = sql.qualified(sql.skip(at + 1, &["only", "if", "exists"]));
            name.is_some_and(|(name, _)| {
                name.schema == OWN_SCHEMA || (name.schema.is_empty() && name.name == OWN_SCHEMA)
            })
        })
}

/// Leaves out constraints, defaults and what generates a column, if nothing stands for what they use.
fn drop_clauses_of_table(sql: &Sql<'_>, open: usize, changes: &mut Changes, dropped: &mut Vec<String>) {
    let Some(close) = sql.closing(open) else { return };
    for (from, to) in sql.parts(open, close) {
        let (start, end) = (sql.start(from), sql.end_before(to));
        let Some(problem) = problem_in(changes, start, end) else { continue };
        let name =
            String::from_utf8_lossy(sql.bytes(if sql.is(from, "constraint") { from + 1 } else { from }));
        if sql.is_one_of(from, &["constraint", "check", "exclude"]) {
            dropped.push(format!("constraint {name}: {problem}"));
            let comma = if from == open + 1 { start } else { sql.end_before(from - 1) };
            changes.replace(comma..end, b"");
        } else {
            let clause = type_end(sql, from + 1, to);
            let is_default = sql.is(clause, "default");
            let is_not_null = is_default && sql.are(to - 2, &["not", "null"]);
            dropped.push(format!(
                "{} of column {name}: {problem}",
                if is_default { "default" } else { "expression" }
            ));
            changes.replace(sql.end_before(clause)..end, if is_not_null { b" NOT NULL" } else { b"" });
        }
    }
}

fn drop_clauses_of_domain(sql: &Sql<'_>, changes: &mut Changes, dropped: &mut Vec<String>) {
    let begins = |at: &usize| sql.is_one_of(*at, &["constraint", "default"]);
    let clauses: Vec<_> = (3..sql.tokens.len()).filter(begins).collect();
    for (index, from) in clauses.iter().enumerate() {
        let to = clauses.get(index + 1).copied().unwrap_or(sql.tokens.len() - 1);
        let (start, end) = (sql.end_before(*from), sql.end_before(to));
        if let Some(problem) = problem_in(changes, start, end) {
            dropped.push(format!("{} of the domain: {problem}", String::from_utf8_lossy(sql.bytes(*from))));
            changes.replace(start..end, b"");
        }
    }
}

fn problem_in(changes: &Changes, start: usize, end: usize) -> Option<String> {
    changes.problems.iter().find(|(at, _)| (start..end).contains(at)).map(|(_, problem)| problem.clone())
}
