//! Calls of the functions that take the key of a file, and what is blanked in a statement with such a call: strings in the
//! argument that is the key, and anywhere words that may be one. The rest stays readable, and so do the other statements of the
//! text.
//!
//! `naming` finds the functions, by their names. An EXECUTE of a prepared statement with such a call is read as the call itself.

use super::lexer::{Dialect, Kind, Lexer, Token};
use super::likely_key;
use super::view::View;
use std::borrow::Cow;
use std::ops::Range;

/// The functions, and which of their arguments is the key, from 1. `_export_rows` and those after it are what the others call.
const FUNCTIONS: [(&[u8], usize); 7] = [
    (b"export_encrypted", 3),
    (b"export_stream", 2),
    (b"import_encrypted", 2),
    (b"import_stream", 2),
    (b"_export_rows", 3),
    (b"_export_chunks", 2),
    (b"_import_rows", 3),
];
/// The name of that argument.
const KEY: &[u8] = b"key";

/// Numbers of arguments or parameters, from 1. All from 63 on are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers(u64);

impl Numbers {
    fn of(number: usize) -> Self {
        Self(1 << number.min(63))
    }

    pub fn contains(self, number: usize) -> bool {
        self.0 & Self::of(number).0 != 0
    }

    pub fn add(&mut self, others: Self) {
        self.0 |= others.0;
    }
}

/// Which argument of a function is the key of a file, if it has one.
pub fn key_argument(name: &[u8]) -> Option<Numbers> {
    let of_name = FUNCTIONS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    of_name.map(|(_, argument)| Numbers::of(*argument))
}

/// The EXECUTE of a prepared statement: where its name begins, and which of its arguments are keys.
#[derive(Clone, Copy)]
pub struct Execute {
    pub start: usize,
    pub keys: Numbers,
}

/// Blanks a statement in a copy of the outermost text, if there is one. Returns the numbers of the parameters that are keys.
pub fn statement(
    view: &View<'_>,
    part: Range<usize>,
    execute: Option<Execute>,
    dialect: Dialect,
    deepest: usize,
    mut target: Option<&mut [u8]>,
) -> Numbers {
    let text = &view.bytes()[..part.end];
    if let Some(target) = target.as_deref_mut() {
        likely_key::blank_in(view, part.clone(), dialect, deepest, target);
    }
    let mut parameters = Numbers::default();
    let mut lexer = Lexer::new(text, dialect);
    lexer.at = part.start;
    let mut before: Option<Token> = None;
    // Which arguments are keys, after the name of a function.
    let mut named = None;
    let mut call: Option<Call> = None;
    for token in lexer {
        match &mut call {
            Some(current) => {
                current.read(view, token);
                let is_parameter = before.is_some_and(|it| it.end == token.start && text[it.start] == b'$');
                match token.kind {
                    Kind::Quoted { quote, close, .. } if current.is_key && !quote.is_identifier() => {
                        // In a message an unclosed quote may be an apostrophe.
                        if let Some(target) = target.as_deref_mut()
                            && (!dialect.prose || close < view.bytes().len())
                        {
                            view.blank_content(token, target);
                        }
                    }
                    Kind::Number if current.is_key && is_parameter => {
                        let digits = std::str::from_utf8(&text[token.start..token.end]);
                        let number = digits.ok().and_then(|digits| digits.parse().ok());
                        parameters.add(Numbers::of(number.unwrap_or(usize::MAX)));
                    }
                    _ => {}
                }
                if current.depth == 0 {
                    call = None;
                }
            }
            None => {
                call = named.filter(|_| text[token.start] == b'(').map(Call::of);
                named = match execute {
                    Some(execute) if execute.start == token.start => Some(execute.keys),
                    _ => name(view, token).as_deref().and_then(key_argument),
                };
            }
        }
        before = Some(token);
    }
    parameters
}

/// The name that a token is.
fn name<'a>(view: &'a View<'_>, token: Token) -> Option<Cow<'a, [u8]>> {
    match token.kind {
        Kind::Word => Some(Cow::Borrowed(&view.bytes()[token.start..token.end])),
        Kind::Quoted { quote, open, close } if quote.is_identifier() => {
            Some(Cow::Owned(view.quoted(quote, open, close).bytes().to_vec()))
        }
        _ => None,
    }
}

/// A call, as far as it was read.
struct Call {
    keys: Numbers,
    /// How many brackets are open.
    depth: usize,
    /// The number of the current argument.
    argument: usize,
    is_key: bool,
    lead: Lead,
}

/// What the current argument begins with: `name =>`, `name :=`, or anything else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    Nothing,
    Name { is_key: bool },
    Sign { is_key: bool },
    Other,
}

impl Call {
    fn of(keys: Numbers) -> Self {
        Self { keys, depth: 1, argument: 1, is_key: keys.contains(1), lead: Lead::Nothing }
    }

    fn read(&mut self, view: &View<'_>, token: Token) {
        let byte = view.bytes()[token.start];
        let sign = if token.kind == Kind::Other { byte } else { 0 };
        match sign {
            b'(' | b'[' => self.depth += 1,
            b')' | b']' => self.depth -= 1,
            b',' if self.depth == 1 => {
                self.argument += 1;
                self.is_key = self.keys.contains(self.argument);
                self.lead = Lead::Nothing;
                return;
            }
            _ => {}
        }
        self.lead = match (self.lead, sign) {
            (Lead::Nothing, 0) => match name(view, token) {
                Some(name) => Lead::Name { is_key: name.eq_ignore_ascii_case(KEY) },
                None => Lead::Other,
            },
            (Lead::Name { is_key }, b'=' | b':') => Lead::Sign { is_key },
            (Lead::Sign { is_key }, b'>' | b'=') => {
                self.is_key = is_key;
                Lead::Other
            }
            _ => Lead::Other,
        };
    }
}

#[cfg(test)]
mod tests;
