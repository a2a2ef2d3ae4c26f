//! Finds where a text names the setting that holds a key, outside comments: `prism_crypt.master_key` in any quoting, with any
//! escapes, or assembled from pieces. What is quoted is read as a text of its own: a function's body, a statement in a string,
//! a string in that statement. Other names (a customer's own column `master_key`, the settings that say where a key is) don't
//! count.

use super::blank::{self, DEEPEST, SCHEMA, Statement};
use super::lexer::{Dialect, Kind, Lexer, Token, is_blank};
use super::view::View;
use std::collections::BTreeSet;

const NAME: &[u8] = b"master_key";
/// The name, as the parse tree has it.
pub const SETTING: &[u8] = b"prism_crypt.master_key";

/// Whether any statement in a text names the setting.
pub fn names(text: &[u8], dialect: Dialect) -> bool {
    // Each word of the name has an underscore, or an escape for it.
    if !text.iter().any(|byte| matches!(byte, b'_' | b'\\' | b'&')) {
        return false;
    }
    let mut walk = Walk::new(None, &|_| false);
    walk.text(&View::of(text), dialect, 0, false);
    walk.found > 0
}

/// Blanks what may be a key in `target`, a copy of a text: in the statements that name the setting, and in those that execute
/// a prepared statement that does. Returns whether there are any.
pub fn blank(text: &[u8], target: &mut [u8], dialect: Dialect, is_prepared: &dyn Fn(&[u8]) -> bool) -> bool {
    let mut walk = Walk::new(Some(target), is_prepared);
    walk.text(&View::of(text), dialect, 0, false);
    walk.found > 0 || walk.executes
}

struct Walk<'a> {
    name: Name,
    /// How often the name was found.
    found: usize,
    executes: bool,
    /// Where to blank. Without it the first name is enough.
    target: Option<&'a mut [u8]>,
    is_prepared: &'a dyn Fn(&[u8]) -> bool,
    /// Names of the statements that this text itself prepares and that name the setting.
    prepared: BTreeSet<Vec<u8>>,
}

impl<'a> Walk<'a> {
    fn new(target: Option<&'a mut [u8]>, is_prepared: &'a dyn Fn(&[u8]) -> bool) -> Self {
        let (name, prepared) = (Name::default(), BTreeSet::new());
        Self { name, found: 0, executes: false, target, is_prepared, prepared }
    }

    /// `is_string`: whether the text is, or is inside, a string.
    fn text(&mut self, view: &View<'_>, dialect: Dialect, depth: usize, is_string: bool) {
        let text = view.bytes();
        let mut statement = Statement { is_beginning_of_string: is_string, ..Statement::default() };
        let mut prepares = Prepares::default();
        let mut colons = 0;
        for token in Lexer::new(text, dialect) {
            let before = self.found;
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
            Verb::Execute if is_name && !prepares.executes && self.target.is_some() => {
                let name = name();
                prepares.executes = self.prepared.contains(&name) || (self.is_prepared)(&name);
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
        let Some(target) = self.target.as_deref_mut() else { return };
        if prepares.executes {
            self.executes = true;
            let all = Statement { first: Some(0), ..statement.clone() };
            blank::statement(view, &all, end, dialect, depth, target);
        } else if statement.first.is_some() {
            blank::statement(view, statement, end, dialect, depth, target);
            self.prepared.extend(prepares.name);
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
}

#[derive(Clone, Copy, Default)]
enum Verb {
    Prepare,
    Execute,
    #[default]
    Other,
}

/// How much of the name was just read.
#[derive(Default)]
struct Name {
    /// How many bytes of its two words.
    matched: usize,
    /// Whether something that may stand between its words came after the last one.
    is_glued: bool,
    /// Whether the last one was in a string.
    is_string: bool,
}

/// Where a word stands in a quoted text.
struct Piece {
    begins: bool,
    ends: bool,
    /// Whether it is a called function, or a type after `::`.
    is_glue: bool,
    is_string: bool,
}

impl Name {
    /// Reads a word. Returns whether it completes the name.
    fn word(&mut self, word: &[u8], piece: &Piece) -> bool {
        for from in [self.matched, 0] {
            let expected = if from < SCHEMA.len() { &SCHEMA[from..] } else { &NAME[from - SCHEMA.len()..] };
            let may_follow = match from {
                0 => true,
                _ if from == SCHEMA.len() => self.is_glued,
                // A split word continues only where a string begins.
                _ => piece.begins,
            };
            if may_follow
                && word.len() <= expected.len()
                && word.eq_ignore_ascii_case(&expected[..word.len()])
                && (word.len() == expected.len() || piece.ends)
            {
                self.matched = from + word.len();
                self.is_glued = false;
                self.is_string = piece.is_string;
                let is_whole = self.matched == SCHEMA.len() + NAME.len();
                if is_whole {
                    self.matched = 0;
                }
                return is_whole;
            }
            if from > 0 && piece.is_glue {
                return false;
            }
            self.matched = 0;
        }
        false
    }

    /// Reads a byte that is no word. Dots, and what joins strings, may stand inside the name. A comma between words that are
    /// not in strings belongs to a list, for example of tables.
    fn other(&mut self, byte: u8, is_string: bool) {
        let is_of_list = byte == b',' && !self.is_string && !is_string;
        if b".,|()+:\\".contains(&byte) && !is_of_list {
            self.is_glued = true;
        } else {
            self.matched = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> bool {
        super::names(text.as_bytes(), Dialect::default())
    }

    #[test]
    fn finds_the_setting_in_any_spelling() {
        for text in [
            "SET prism_crypt.master_key = 'x'",
            "set PRISM_CRYPT.MASTER_KEY to 'x'",
            "set \"prism_crypt\".\"master_key\" to 'x'",
            "set \"prism_crypt.master_key\" to 'x'",
            "set prism_crypt . /* a /* nested */ one */ master_key -- x",
            "set prism_crypt. -- x\n master_key = 'x'",
            "select set_config('prism_crypt.master_key', $1, false)",
            "select set_config('prism_crypt' || '.' || 'master_key', $1, false)",
            "select set_config('prism_' || 'crypt.mas' || 'ter_key', $1, false)",
            "select set_config('prism_crypt.mas'\n'ter_key', $1, false)",
            "select set_config('prism_crypt'::text || chr(46) || quote_ident('master_key'), $1, false)",
            "select set_config(concat_ws('.', 'prism_crypt', 'master_key'), $1, false)",
            "select set_config(array_to_string('{prism_crypt,master_key}'::text[], '.'), $1, false)",
            "select set_config(a || '.' || b, $1, false) FROM (SELECT 'prism_crypt', 'master_key') AS v(a, b)",
            "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', $1, $2, $3) USING 'prism_crypt', 'master_key', 'x'; END $$",
            "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'prism_crypt', 'master_key', 'x'); END $$",
            "DO $$ BEGIN EXECUTE 'SET \"prism_crypt\".' || '\"master_key\" = ''x'''; END $$",
            "DO 'BEGIN EXECUTE ''SET U&\"prism_crypt\".U&\"\\006daster_key\" = ''''x''''''; END'",
            "SET U&\"prism_crypt\".U&\"\\006daster_key\" = 'x'",
            "SET U&\"\\0070rism\\005fcrypt\\002emaster\\+00005fkey\" = 'x'",
            "SET U&\"prism_crypt\" UESCAPE '!' . U&\"!006daster_key\" UESCAPE '!' = 'x'",
            "SET prism_crypt.U&\"z006daster_key\" UESCAPE 'z' = 'x'",
            "select set_config(E'prism_crypt.master\\x5fkey', 'x', false)",
            "select set_config(E'\\160rism_crypt.\\u006Daster\\U0000005fkey', 'x', false)",
            "select E'\\n', set_config('prism_crypt.master_key', 'x', false)",
            "ALTER ROLE a IN DATABASE b SET prism_crypt.master_key TO 'x'",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET prism_crypt.master_key = 'x' AS 'SELECT 1'",
            "unnamed portal with parameters: $1 = 'prism_crypt.master_key', $2 = 'x'",
            "SQL statement \"SET \"prism_crypt\".\"master_key\" = 'x'\"",
            "invalid value for parameter \"prism_crypt.master_key\"",
            "options='-c prism_crypt.master_key=x'",
        ] {
            assert!(names(text), "{text}");
        }
    }

    #[test]
    fn leaves_other_names_and_comments_alone() {
        for text in [
            "SET prism_crypt.master_key_file = '/x'",
            "SELECT rotate_master_key()",
            "SELECT prism_crypt.rotate_master_key()",
            "CREATE TABLE vault(master_key text)",
            "CREATE TABLE prism_crypt_vault(id int, master_key text)",
            "INSERT INTO vault(master_key) VALUES ('x') -- E'\\n'",
            "SELECT prism_crypt.status() /* master_key */",
            "SET my_prism_crypt.master_key = 'x'",
            "SELECT prism_crypt master_key",
            "SELECT 'prism_crypt' = master_key",
            "/* prism_crypt.master_key */ DROP TABLE x",
            "DROP TABLE x -- prism_crypt.master_key",
            "/* /* */ prism_crypt.master_key */ DROP TABLE x",
            "DO $$ BEGIN /* prism_crypt.master_key */ EXECUTE '-- prism_crypt.master_key'; END $$",
            "SELECT prism_crypt; SELECT master_key",
            "GRANT ALL ON prism_crypt, master_key TO other, monit",
            "GRANT ALL ON \"prism_crypt\", \"master_key\" TO other",
            "SELECT * FROM s.prism_crypt, master_key",
            "INSERT INTO t(prism_crypt, master_key) VALUES (1, 2)",
            "prism_crypt /* master_key",
            "prism_crypt.",
            "\\",
            "master",
            "",
        ] {
            assert!(!names(text), "{text}");
        }
    }

    #[test]
    fn takes_a_time_that_grows_with_the_text() {
        let repeated = |part: &str| part.repeat(2_000_000 / part.len());
        for part in
            ["prism_crypt/*", "prism_crypt.", "'\\\"$a$", "U&'a' ", "$a", "''", "\"'", "E'\\''\n", "(", "a--"]
        {
            let text = repeated(part);
            assert!(!names(&text), "{part}");
            blank(text.as_bytes(), &mut text.clone().into_bytes(), Dialect::default(), &|_| false);
        }
        let text = repeated("SET prism_crypt.master_key = 'x'; ") + &repeated("'prism_crypt.master_key',");
        let mut target = text.clone().into_bytes();
        assert!(blank(text.as_bytes(), &mut target, Dialect::default(), &|_| false));
    }
}
