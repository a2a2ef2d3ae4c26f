//! Finds where a text names the setting that holds a key, outside comments: `prism_crypt.master_key` in any quoting, with any
//! escapes, or assembled from pieces. What is quoted is read as a text of its own: a function's body, a statement in a string,
//! a string in that statement. Other names (a customer's own column `master_key`, the settings that say where a key is) don't
//! count.
//!
//! Finds likewise the functions that take the key of a file, of which `file_call` has the names; these are not put together from
//! pieces.

mod name;

use super::blank::{self, DEEPEST, Statement};
use super::file_call::{self, Execute, Numbers};
use super::lexer::{Dialect, Kind, Lexer, Token, is_blank};
use super::view::View;
use name::{Name, Piece};
use std::collections::BTreeMap;

/// The name, as the parse tree has it.
pub const SETTING: &[u8] = b"prism_crypt.master_key";

/// What statements may give a key to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// The setting.
    pub setting: bool,
    /// A function that takes the key of a file.
    pub file_call: bool,
    /// The parameters that are such a key.
    pub file_keys: Numbers,
}

impl Mentions {
    pub fn any(self) -> bool {
        self.setting || self.file_call
    }
}

/// What the statements of a text mention. If it is the setting, the rest may not be known.
pub fn mentions(text: &[u8], dialect: Dialect) -> Mentions {
    // Each word of the names has an underscore, or an escape for it.
    if !text.iter().any(|byte| matches!(byte, b'_' | b'\\' | b'&')) {
        return Mentions::default();
    }
    let mut walk = Walk::new(None, &|_| Mentions::default());
    walk.text(&View::of(text), dialect, 0, false);
    walk.mentions()
}

/// Blanks what may be a key in `target`, a copy of a text: in the statements that mention what [`Mentions`] has, and in those that
/// execute a prepared statement that does. Returns what they mention.
pub fn blank(
    text: &[u8],
    target: &mut [u8],
    dialect: Dialect,
    prepared: &dyn Fn(&[u8]) -> Mentions,
) -> Mentions {
    let mut walk = Walk::new(Some(target), prepared);
    walk.text(&View::of(text), dialect, 0, false);
    walk.mentions()
}

struct Walk<'a> {
    name: Name,
    /// How often the name was found.
    found: usize,
    /// How often a function that takes the key of a file.
    file_calls: usize,
    file_keys: Numbers,
    executes: bool,
    /// Where to blank. Without it the first name of the setting is enough.
    target: Option<&'a mut [u8]>,
    prepared_before: &'a dyn Fn(&[u8]) -> Mentions,
    /// What the statements that this text itself prepares mention, by their names.
    prepared: BTreeMap<Vec<u8>, Mentions>,
}

impl<'a> Walk<'a> {
    fn new(target: Option<&'a mut [u8]>, prepared_before: &'a dyn Fn(&[u8]) -> Mentions) -> Self {
        Self {
            name: Name::default(),
            found: 0,
            file_calls: 0,
            file_keys: Numbers::default(),
            executes: false,
            target,
            prepared_before,
            prepared: BTreeMap::new(),
        }
    }

    fn mentions(&self) -> Mentions {
        Mentions {
            setting: self.found > 0 || self.executes,
            file_call: self.file_calls > 0,
            file_keys: self.file_keys,
        }
    }

    /// `is_string`: whether the text is, or is inside, a string.
    fn text(&mut self, view: &View<'_>, dialect: Dialect, depth: usize, is_string: bool) {
        let text = view.bytes();
        let mut statement = Statement { is_beginning_of_string: is_string, ..Statement::default() };
        let mut prepares = Prepares::default();
        let mut colons = 0;
        for token in Lexer::new(text, dialect) {
            let (before, file_calls_before) = (self.found, self.file_calls);
            match token.kind {
                Kind::Semicolon => {
                    self.end(view, &statement, prepares, token.start, dialect, depth);
                    statement = Statement { start: token.end, ..Statement::default() };
                    prepares = Prepares::default();
                    self.name = Name::default();
                    continue;
                }
                Kind::Word => {
                    let word = &text[token.start..token.end];
                    let is_quoted = depth > 0;
                    let piece = Piece {
                        begins: is_quoted && token.start == 0,
                        ends: is_quoted && token.end == text.len(),
                        is_glue: colons == 2 || is_called(text, token.end),
                        is_string,
                    };
                    if self.name.word(word, &piece) {
                        self.found += 1;
                    }
                    if file_call::key_argument(word).is_some() {
                        self.file_calls += 1;
                    }
                }
                Kind::Quoted { quote, open, close } => {
                    self.name.is_glued = true;
                    if depth < DEEPEST {
                        let is_string = is_string || !quote.is_identifier();
                        self.text(&view.quoted(quote, open, close), dialect.quoted(), depth + 1, is_string);
                    }
                    self.name.is_glued = true;
                }
                Kind::Other => self.name.other(text[token.start], is_string),
                Kind::Number => {}
            }
            let is_colon = token.kind == Kind::Other && text[token.start] == b':';
            colons = if is_colon { colons + 1 } else { 0 };
            if self.found > before {
                if self.target.is_none() {
                    return;
                }
                statement.note_name(token);
            }
            statement.has_file_call |= self.file_calls > file_calls_before;
            if depth == 0 {
                self.follow(view, token, &mut prepares);
            }
        }
        self.end(view, &statement, prepares, text.len(), dialect, depth);
    }

    /// Follows PREPARE and EXECUTE, and the name after them.
    fn follow(&self, view: &View<'_>, token: Token, prepares: &mut Prepares) {
        let text = view.bytes();
        let word = &text[token.start..token.end];
        let is_name = match token.kind {
            Kind::Word => true,
            Kind::Quoted { quote, .. } => quote.is_identifier(),
            _ => false,
        };
        let name = || match token.kind {
            Kind::Quoted { quote, open, close } => view.quoted(quote, open, close).bytes().to_vec(),
            _ => word.to_ascii_lowercase(),
        };
        match prepares.last {
            Verb::Prepare if is_name => prepares.name = Some(name()),
            Verb::Execute if is_name && self.target.is_some() => {
                let name = name();
                let here = self.prepared.get(&name).copied();
                let mentions = here.unwrap_or_else(|| (self.prepared_before)(&name));
                prepares.executes |= mentions.setting;
                if mentions.file_call {
                    prepares.file_call = Some(Execute { start: token.start, keys: mentions.file_keys });
                }
            }
            _ => {}
        }
        prepares.last = if token.kind == Kind::Word && word.eq_ignore_ascii_case(b"prepare") {
            Verb::Prepare
        } else if token.kind == Kind::Word && word.eq_ignore_ascii_case(b"execute") {
            Verb::Execute
        } else {
            Verb::Other
        };
    }

    fn end(
        &mut self,
        view: &View<'_>,
        statement: &Statement,
        prepares: Prepares,
        end: usize,
        dialect: Dialect,
        depth: usize,
    ) {
        let mut mentions = Mentions {
            setting: statement.first.is_some(),
            file_call: statement.has_file_call,
            ..Mentions::default()
        };
        if statement.has_file_call || prepares.file_call.is_some() {
            self.file_calls += usize::from(!statement.has_file_call);
            let (part, target) = (statement.start..end, self.target.as_deref_mut());
            let deepest = DEEPEST - depth;
            mentions.file_keys =
                file_call::statement(view, part, prepares.file_call, dialect, deepest, target);
            self.file_keys.add(mentions.file_keys);
        }
        let Some(target) = self.target.as_deref_mut() else { return };
        if prepares.executes {
            self.executes = true;
            let all = Statement { first: Some(0), ..statement.clone() };
            blank::statement(view, &all, end, dialect, depth, target);
        } else if statement.first.is_some() {
            blank::statement(view, statement, end, dialect, depth, target);
        }
        if let Some(name) = prepares.name.filter(|_| mentions.any()) {
            self.prepared.insert(name, mentions);
        }
    }
}

/// Whether an opening parenthesis follows `end`.
fn is_called(text: &[u8], end: usize) -> bool {
    text[end..].iter().find(|byte| !is_blank(**byte)) == Some(&b'(')
}

#[derive(Default)]
struct Prepares {
    last: Verb,
    /// The name of what a PREPARE prepares.
    name: Option<Vec<u8>>,
    /// Whether it is the EXECUTE of a statement that names the setting.
    executes: bool,
    /// If it is the EXECUTE of one that gives a file its key.
    file_call: Option<Execute>,
}

#[derive(Clone, Copy, Default)]
enum Verb {
    Prepare,
    Execute,
    #[default]
    Other,
}

#[cfg(test)]
mod tests;
