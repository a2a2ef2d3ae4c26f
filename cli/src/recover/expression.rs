//! What stands for what in definitions: the type is `text`, functions that encrypt and decrypt are their argument, the extension's
//! operators and operator classes are those of text, and constants are opened.

use super::catalog::{Catalog, OWN_SCHEMA, TYPE};
use super::values::{Kind, Opener};
use crate::lexer::{Dialect, Kind as Token, Quote};
use crate::sql::{QualifiedName, Sql, quoted};
use std::collections::HashSet;
use std::ops::Range;

/// Functions whose first argument is what is left of them.
const GIVE_THEIR_ARGUMENT: [&[u8]; 7] = [
    b"encrypt_field",
    b"decrypt_field",
    b"try_decrypt_field",
    b"reencrypt_field",
    b"encrypt_bytes",
    b"decrypt_bytes",
    b"reencrypt_bytes",
];
/// Functions of one value, and what stands for them.
const CASES: [(&[u8], &str, &str); 2] = [
    (b"mask_field", "NULL::text ELSE '****'::text", "mask_field() shows nothing"),
    (b"key_version", "NULL::integer ELSE 0", "key_version() is 0"),
];
/// Functions of the extension that nothing stands for.
const NO_MEANING: [&[u8]; 8] = [
    b"blind_index",
    b"envelope_info",
    b"encrypted_text_wanted",
    b"encrypted_text_in",
    b"encrypted_text_out",
    b"encrypted_text_send",
    b"encrypted_text_recv",
    b"rotate_batch",
];
const OPERATOR_CLASSES: [&[u8]; 2] = [b"encrypted_text_ops", b"encrypted_text_unique_ops"];
const OPERATORS: [&[u8]; 9] = [b"=", b"<>", b"<", b"<=", b">", b">=", b"@>", b"<@", b"&&"];
/// What a name of a setting follows.
const BEFORE_SETTINGS: [&str; 5] = ["set", "local", "session", "reset", "show"];

/// What of a text is to be replaced, and what can't be.
#[derive(Default)]
pub struct Changes {
    edits: Vec<(Range<usize>, Vec<u8>)>,
    /// What can't be carried over: where, and what it is.
    pub problems: Vec<(usize, String)>,
    /// What is otherwise than it was.
    pub notes: Vec<String>,
}

impl Changes {
    /// Replaces a part of the text, of which nothing is replaced yet.
    pub fn edit(&mut self, part: Range<usize>, by: &[u8]) {
        self.edits.push((part, by.to_vec()));
    }

    /// Replaces a part of the text. What is changed inside of it counts no more, problems neither.
    pub fn replace(&mut self, part: Range<usize>, by: &[u8]) {
        self.edits.retain(|(other, _)| !(part.start <= other.start && other.end <= part.end));
        self.problems.retain(|(at, _)| !part.contains(at));
        self.edit(part, by);
    }

    /// The text with the changes; `None` if there are none.
    pub fn apply(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_by_key(|(part, _)| (part.start, part.end));
        let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
        for (part, by) in &self.edits {
            if part.start >= at {
                out.extend_from_slice(&text[at..part.start]);
                out.extend_from_slice(by);
                at = part.end;
            }
        }
        out.extend_from_slice(&text[at..]);
        Some(out)
    }

    fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// Finds the changes.
pub struct Rewriter<'a, 'o> {
    /// The database.
    pub catalog: &'a Catalog,
    /// What is not in the new dump, so that nothing may use it.
    pub left_out: &'a HashSet<QualifiedName>,
    /// How strings are written.
    pub dialect: Dialect,
    /// Opens constants.
    pub opener: &'a mut Opener<'o>,
}

impl Rewriter<'_, '_> {
    /// The changes of a statement.
    pub fn statement(&mut self, sql: &Sql<'_>) -> Changes {
        self.changes(sql, false)
    }

    /// `is_body`: names need no schema.
    fn changes(&mut self, sql: &Sql<'_>, is_body: bool) -> Changes {
        let mut changes = Changes::default();
        // CREATE [OR REPLACE] FUNCTION
        let is_function =
            sql.is(0, "create") && (1..4).any(|at| sql.is_one_of(at, &["function", "procedure"]));
        let has_body = !is_body && (is_function || sql.is(0, "do"));
        for at in 0..sql.tokens.len() {
            if let Token::Quoted { quote, open, .. } = sql.tokens[at].kind
                && !quote.is_identifier()
            {
                let is_of_function = has_body && (sql.is(at - at.min(1), "as") || sql.is(0, "do"));
                if is_of_function {
                    self.body(sql, at, quote, open, &mut changes);
                } else {
                    self.constant(sql, at, quote, &mut changes);
                }
            } else if sql.is(at, "operator") && sql.is_byte(at + 1, b'(') {
                self.operator(sql, at, &mut changes);
            } else if at == 0 || !sql.is_byte(at - 1, b'.') {
                self.name(sql, at, is_body, &mut changes);
            }
        }
        // What is in an argument that is dropped is in nobody's way.
        let Changes { edits, problems, .. } = &mut changes;
        problems.retain(|(at, _)| !edits.iter().any(|(part, _)| part.contains(at)));
        changes
    }

    fn name(&mut self, sql: &Sql<'_>, at: usize, is_body: bool, changes: &mut Changes) {
        let Some((name, after)) = sql.qualified(at) else { return };
        let start = sql.start(at);
        if name.schema == OWN_SCHEMA {
            if at == 0 || !sql.is_one_of(at - 1, &BEFORE_SETTINGS) {
                changes.problems.push((start, format!("it uses {name}")));
            }
            return;
        }
        if !name.schema.is_empty() && self.left_out.contains(&name) {
            changes.problems.push((start, format!("it uses {name}, which is left out")));
            return;
        }
        let is_ours = if name.schema.is_empty() {
            is_body && sql.tokens[at].kind == Token::Word
        } else {
            Some(&name.schema) == self.catalog.schema.as_ref()
        };
        if !is_ours {
            return;
        }
        let bare = name.name.as_slice();
        if bare == TYPE {
            self.type_name(sql, at, after, changes);
        } else if OPERATOR_CLASSES.contains(&bare) {
            changes.edit(start..sql.end_before(after), b"pg_catalog.text_ops");
        } else if sql.is_byte(after, b'(') {
            self.call(sql, at, after, bare, changes);
        }
    }

    fn type_name(&mut self, sql: &Sql<'_>, at: usize, after: usize, changes: &mut Changes) {
        let mut end = after;
        if sql.is_byte(after, b'(')
            && let Some(close) = sql.closing(after)
        {
            end = close + 1;
            let modifier = String::from_utf8_lossy(&sql.text[sql.start(after)..sql.end_before(end)]);
            changes.note(format!("encrypted_text{modifier} is text"));
        }
        changes.edit(sql.start(at)..sql.end_before(end), b"text");
    }

    fn call(&mut self, sql: &Sql<'_>, at: usize, open: usize, name: &[u8], changes: &mut Changes) {
        let Some(close) = sql.closing(open) else { return };
        let case = CASES.iter().find(|(function, ..)| *function == name);
        if case.is_none() && !GIVE_THEIR_ARGUMENT.contains(&name) {
            if NO_MEANING.contains(&name) {
                changes
                    .problems
                    .push((sql.start(at), format!("it uses {}()", String::from_utf8_lossy(name))));
            }
            return;
        }
        // In the notation `name => value` any of them may be the first.
        let named = |(from, _): &(usize, usize)| sql.is_byte(from + 1, b'=') && sql.is_byte(from + 2, b'>');
        let is_value =
            |part: &(usize, usize)| matches!(sql.name(part.0).as_deref(), Some(b"value" | b"plaintext"));
        let parts = sql.parts(open, close);
        let part = parts
            .iter()
            .find(|part| !named(part))
            .or_else(|| parts.iter().find(|part| named(part) && is_value(part)));
        let Some(&(from, to)) = part else { return };
        let from = if named(&(from, to)) { from + 3 } else { from };
        let (value, end) = (sql.start(from)..sql.end_before(to), sql.end_before(close + 1));
        let (before, behind) = match case {
            Some((_, cases, note)) => {
                changes.note((*note).to_owned());
                ("(CASE WHEN (".to_owned(), format!(") IS NULL THEN {cases} END)"))
            }
            None => ("(".to_owned(), ")".to_owned()),
        };
        changes.edit(sql.start(at)..value.start, before.as_bytes());
        // The tokens behind are looked at later: those between are dropped then.
        changes.edit(value.end..end, behind.as_bytes());
    }

    fn operator(&mut self, sql: &Sql<'_>, at: usize, changes: &mut Changes) {
        let Some(close) = sql.closing(at + 1) else { return };
        let is_in_schema = sql.name(at + 2).is_some()
            && sql.name(at + 2) == self.catalog.schema
            && sql.is_byte(at + 3, b'.');
        let operator: Vec<u8> = (at + 4..close).flat_map(|at| sql.bytes(at).to_vec()).collect();
        if is_in_schema
            && OPERATORS.contains(&operator.as_slice())
            && self.is_of_encrypted(sql, at, close + 1)
        {
            changes.edit(sql.start(at)..sql.end_before(close + 1), &operator);
        }
    }

    /// Whether an operator is the extension's. If others have operators in the same schema, what stands beside it tells.
    fn is_of_encrypted(&self, sql: &Sql<'_>, at: usize, after: usize) -> bool {
        let is_encrypted = |name| self.catalog.encrypted_names.contains(&name);
        let is_column = |at: usize| sql.name(at).is_some_and(is_encrypted);
        let mut right = after;
        while sql.name(right).is_some() && sql.is_byte(right + 1, b'.') {
            right += 2;
        }
        let is_cast = |at: usize| sql.name(at).is_some_and(|name| name == TYPE);
        let left = at.saturating_sub(1);
        // 'x'::public.encrypted_text
        !self.catalog.has_other_operators
            || is_column(left)
            || is_column(right)
            || is_cast(left)
            || is_cast(right + 5)
    }

    fn constant(&mut self, sql: &Sql<'_>, at: usize, quote: Quote, changes: &mut Changes) {
        let Some(content) = sql.literal(at) else { return };
        if let Some(opened) = self.opener.open(Kind::Nested, &content) {
            let token = sql.tokens[at];
            changes.edit(token.start..token.end, &quoted(&opened, quote == Quote::Backslash));
        }
    }

    /// A function's body is SQL, or a language that looks like it as far as names go.
    fn body(&mut self, sql: &Sql<'_>, at: usize, quote: Quote, open: usize, changes: &mut Changes) {
        let Some(content) = sql.literal(at) else { return };
        let token = sql.tokens[at];
        let mut inner = self.changes(&Sql::new(&content, self.dialect), true);
        if !inner.problems.is_empty() {
            changes.problems.extend(inner.problems.into_iter().map(|(_, problem)| (token.start, problem)));
            return;
        }
        inner.notes.iter().for_each(|note| changes.note(note.clone()));
        if let Some(content) = inner.apply(&content) {
            let tag = &sql.text[token.start..open];
            let is_free = quote == Quote::Dollar && memchr::memmem::find(&content, tag).is_none();
            let text = if is_free {
                [tag, &content, tag].concat()
            } else {
                quoted(&content, quote == Quote::Backslash)
            };
            changes.edit(token.start..token.end, &text);
        }
    }
}
