//! What is blanked in a statement that names the key setting, and what stays. Blanked are strings after the name, an unquoted
//! value that a SET gives it and, anywhere, words that may be a key. Everything else stays readable, and so do the other
//! statements of the text.
//!
//! `naming` finds such a [`Statement`] and calls [`statement`], which goes over its tokens once more. In quotes that stay it
//! blanks strings after the name, and what may be a key once escapes are read, down to [`DEEPEST`] quotes in quotes.
//! [`all_literals`] is for statements in which only the parse tree shows the name. Texts keep their length: bytes are
//! overwritten in place.

use super::lexer::{Dialect, Kind, Lexer, Token, is_blank};
use super::redact::key_like_words;
use super::view::View;
use memchr::memchr2;
use std::ops::Range;

/// The first half of the setting's name.
pub const SCHEMA: &[u8] = b"prism_crypt";
/// How deep quotes in quotes are read.
pub const DEEPEST: usize = 8;

/// A statement in a text.
#[derive(Clone, Default)]
pub struct Statement {
    pub start: usize,
    /// Whether a string begins with it: then it may continue what another string began.
    pub is_beginning_of_string: bool,
    /// Where the first name of the setting in it ends.
    pub first: Option<usize>,
    /// Where the tokens that complete the name begin, in ascending order.
    pub names: Vec<usize>,
    /// Whether a function that takes the key of a file is named in it.
    pub has_file_call: bool,
}

impl Statement {
    pub fn note_name(&mut self, token: Token) {
        self.first.get_or_insert(token.end);
        self.names.push(token.start);
    }
}

/// Blanks a statement in a copy of the outermost text.
pub fn statement(
    view: &View<'_>,
    statement: &Statement,
    end: usize,
    dialect: Dialect,
    depth: usize,
    target: &mut [u8],
) {
    let text = &view.bytes()[..end];
    let first = statement.first.unwrap_or(end);
    words(view, statement.start..end, target);
    let mut lexer = Lexer::new(text, dialect);
    lexer.at = statement.start;
    let mut value = Value::No;
    let mut lead = Lead::of(statement);
    while let Some(token) = lexer.next() {
        let is_name = statement.names.binary_search(&token.start).is_ok();
        let is_after = token.start >= first;
        let may_have_colon = may_have_colon(text, token.start, dialect, depth);
        match token.kind {
            Kind::Quoted { quote, open, close } => {
                let is_value = matches!(value, Value::Next | Value::NextQuoted);
                // In a message an unclosed quote may be an apostrophe.
                let is_quote = !dialect.prose || close < view.bytes().len();
                if is_quote && !is_name && (is_value || (is_after && !quote.is_identifier())) {
                    view.blank_content(token, target);
                } else if depth < DEEPEST {
                    let quoted = view.quoted(quote, open, close);
                    if is_after && !is_name {
                        literals(&quoted, dialect.quoted(), depth + 1, target);
                    }
                    encoded_words(&quoted, dialect.quoted(), depth + 1, target);
                }
                value = match is_name && quote.is_identifier() {
                    true if lead.is_of_set() => Value::Named,
                    true if may_have_colon => Value::Key,
                    false if is_value => Value::Given,
                    _ => Value::No,
                };
                let quoted = view.quoted(quote, open, close);
                lead = if quote.is_identifier() { lead.after_word(quoted.bytes()) } else { Lead::No };
            }
            _ if is_name => {
                value = match lead.is_of_set() {
                    true => Value::Named,
                    false if may_have_colon => Value::Key,
                    false => Value::No,
                };
                lead = Lead::No;
            }
            _ => {
                lead = lead.after(&text[token.start..token.end], token.kind);
                value = value.after(text, token);
                if value == Value::Here {
                    lexer.at = value_end(text, token.start);
                    view.blank(token.start..lexer.at, target);
                    value = Value::Given;
                }
            }
        }
    }
}

/// Whether an unquoted value is expected, as in `SET prism_crypt.master_key TO abc, def`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    No,
    Named,
    Next,
    Here,
    Given,
    /// After a name that only a colon can give a value.
    Key,
    /// A quoted value is expected.
    NextQuoted,
}

impl Value {
    fn after(self, text: &[u8], token: Token) -> Self {
        let read = &text[token.start..token.end];
        let is_doubled = text.get(token.end) == Some(&b':') || text[..token.start].last() == Some(&b':');
        match (self, token.kind) {
            (Self::Named, Kind::Word) if read.eq_ignore_ascii_case(b"to") => Self::Next,
            (Self::Named | Self::Next, Kind::Other) if read == b"=" => Self::Next,
            (Self::Named | Self::Key, Kind::Other) if read == b":" && !is_doubled => Self::NextQuoted,
            (Self::Given, Kind::Other) if read == b"," => Self::Next,
            (Self::Next, Kind::Word) if read.eq_ignore_ascii_case(b"default") => Self::No,
            (Self::Next, Kind::Other) if read == b"," => Self::Next,
            (Self::Next, Kind::Other) if read == b"(" || read == b")" => Self::No,
            (Self::Next, _) => Self::Here,
            _ => Self::No,
        }
    }
}

/// Whether a colon and a value may follow the name that begins here, as in JSON and in messages. In SQL a colon separates
/// array bounds.
fn may_have_colon(text: &[u8], start: usize, dialect: Dialect, depth: usize) -> bool {
    let before = text[..start].iter().rfind(|byte| !is_blank(**byte));
    dialect.prose || dialect.json || depth > 0 && matches!(before, None | Some(b'{' | b','))
}

/// What stands before the name: whether it is the name in a SET, whose value may be unquoted. The SET of an UPDATE sets columns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    No,
    /// A string begins that may continue another one with a SET in it.
    Start,
    Set,
    /// `SET SESSION`, `SET LOCAL`.
    Scope,
    Schema,
    Point,
    /// The dash of `-c`, as in connection options.
    Dash,
    /// For the rest of the statement: it is an UPDATE.
    Never,
}

impl Lead {
    fn of(statement: &Statement) -> Self {
        if statement.is_beginning_of_string { Self::Start } else { Self::No }
    }

    fn is_of_set(self) -> bool {
        matches!(self, Self::Start | Self::Set | Self::Scope | Self::Point)
    }

    fn after(self, read: &[u8], kind: Kind) -> Self {
        match (self, kind) {
            (Self::Never, _) => Self::Never,
            (_, Kind::Word) if read.eq_ignore_ascii_case(b"update") => Self::Never,
            (Self::Dash, Kind::Word) if read == b"c" => Self::Set,
            (Self::Start | Self::No | Self::Dash, Kind::Word) if read.eq_ignore_ascii_case(b"set") => {
                Self::Set
            }
            (Self::Set, Kind::Word)
                if read.eq_ignore_ascii_case(b"session") || read.eq_ignore_ascii_case(b"local") =>
            {
                Self::Scope
            }
            (_, Kind::Word) => self.after_word(read),
            (Self::Start | Self::Schema, Kind::Other) if read == b"." => Self::Point,
            (_, Kind::Other) if read == b"-" => Self::Dash,
            _ => Self::No,
        }
    }

    /// Reads a word that may be the first part of the name or, in a string that continues another, the end of that part.
    fn after_word(self, word: &[u8]) -> Self {
        let is_end = || {
            SCHEMA.len().checked_sub(word.len()).is_some_and(|at| word.eq_ignore_ascii_case(&SCHEMA[at..]))
        };
        match self {
            Self::Never => Self::Never,
            Self::Set | Self::Scope if word.eq_ignore_ascii_case(SCHEMA) => Self::Schema,
            Self::Start if is_end() => Self::Schema,
            _ => Self::No,
        }
    }
}

fn value_end(text: &[u8], start: usize) -> usize {
    let ends = |at: usize| {
        is_blank(text[at])
            || b";'\"(),".contains(&text[at])
            || [&b"/*"[..], b"--"].contains(&&text[at..text.len().min(at + 2)])
    };
    (start + 1..text.len()).find(|at| ends(*at)).unwrap_or(text.len())
}

/// Blanks every string of a statement, and words that may be a key, in a copy of it.
pub fn all_literals(text: &[u8], target: &mut [u8], dialect: Dialect) {
    let view = View::of(text);
    words(&view, 0..text.len(), target);
    literals(&view, dialect, 0, target);
}

/// Blanks every string.
fn literals(view: &View<'_>, dialect: Dialect, depth: usize, target: &mut [u8]) {
    for token in Lexer::new(view.bytes(), dialect) {
        match token.kind {
            Kind::Quoted { quote, open, close } if quote.is_identifier() => {
                if depth < DEEPEST {
                    literals(&view.quoted(quote, open, close), dialect.quoted(), depth + 1, target);
                }
            }
            _ => view.blank_content(token, target),
        }
    }
}

/// Blanks words that may be a key.
fn words(view: &View<'_>, part: Range<usize>, target: &mut [u8]) {
    for word in key_like_words(&view.bytes()[part.clone()]) {
        view.blank(part.start + word.start..part.start + word.end, target);
    }
}

/// Blanks what may be a key once escapes are read, in nested quotes too.
fn encoded_words(view: &View<'_>, dialect: Dialect, depth: usize, target: &mut [u8]) {
    if view.is_decoded() {
        words(view, 0..view.bytes().len(), target);
    }
    if depth == DEEPEST || memchr2(b'\\', b'&', view.bytes()).is_none() {
        return;
    }
    for token in Lexer::new(view.bytes(), dialect) {
        if let Kind::Quoted { quote, open, close } = token.kind {
            encoded_words(&view.quoted(quote, open, close), dialect.quoted(), depth + 1, target);
        }
    }
}

#[cfg(test)]
mod tests;
