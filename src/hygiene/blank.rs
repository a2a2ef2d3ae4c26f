//! What is taken out of a statement that names the key setting, and what stays. Taken out are: strings after the name, a value
//! given to it without quotes, and wherever they stand, words that may be a key. All else can be read, and so can the other
//! statements of the text.

use super::lexer::{Dialect, Kind, Lexer, Token, is_blank};
use super::naming::DEEPEST;
use super::redact::key_like_words;
use super::view::View;
use memchr::memchr2;
use std::ops::Range;

/// A statement of a text.
#[derive(Default)]
pub struct Statement {
    pub start: usize,
    /// Where it has named the setting.
    pub first: Option<usize>,
    /// The tokens that complete the name, by their beginning.
    pub names: Vec<usize>,
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
    while let Some(token) = lexer.next() {
        let is_name = statement.names.binary_search(&token.start).is_ok();
        let is_after = token.start >= first;
        match token.kind {
            Kind::Quoted { quote, open, close } => {
                let is_value = value == Value::Next;
                // In a message an open quote may be an apostrophe.
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
                    true => Value::Named,
                    false if is_value => Value::Given,
                    false => Value::No,
                };
            }
            _ if is_name => value = Value::Named,
            _ => {
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

/// Whether a value without quotes is expected, as in `SET prism_crypt.master_key TO abc, def`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    No,
    Named,
    Next,
    Here,
    Given,
}

impl Value {
    fn after(self, text: &[u8], token: Token) -> Self {
        let read = &text[token.start..token.end];
        let is_doubled = text.get(token.end) == Some(&b':') || text[..token.start].last() == Some(&b':');
        match (self, token.kind) {
            (Self::Named, Kind::Word) if read.eq_ignore_ascii_case(b"to") => Self::Next,
            (Self::Named | Self::Next, Kind::Other) if read == b"=" => Self::Next,
            (Self::Named, Kind::Other) if read == b":" && !is_doubled => Self::Next,
            (Self::Given, Kind::Other) if read == b"," => Self::Next,
            (Self::Next, Kind::Word) if read.eq_ignore_ascii_case(b"default") => Self::No,
            (Self::Next, Kind::Other) if read == b"," => Self::Next,
            (Self::Next, Kind::Other) if read == b"(" || read == b")" => Self::No,
            (Self::Next, _) => Self::Here,
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

/// Blanks every literal of a statement in a copy of it.
pub fn all_literals(text: &[u8], target: &mut [u8], dialect: Dialect) {
    let view = View::of(text);
    words(&view, 0..text.len(), target);
    literals(&view, dialect, 0, target);
}

/// Blanks each string.
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

/// Blanks what may be a key.
fn words(view: &View<'_>, part: Range<usize>, target: &mut [u8]) {
    for word in key_like_words(&view.bytes()[part.clone()]) {
        view.blank(part.start + word.start..part.start + word.end, target);
    }
}

/// Blanks what may be a key once escapes are read, in quotes of any depth.
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
