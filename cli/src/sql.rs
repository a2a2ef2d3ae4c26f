//! A statement as tokens, and the names in it.

use crate::lexer::{Dialect, Kind, Lexer, Quote, Token, pieces};

/// An identifier as PostgreSQL compares it, in the bytes of the dump.
pub type Name = Vec<u8>;

/// A name with its schema, if it is written with one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The schema, empty without one.
    pub schema: Name,
    /// The name.
    pub name: Name,
}

impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        if self.schema.is_empty() {
            write!(f, "{name}")
        } else {
            write!(f, "{}.{name}", String::from_utf8_lossy(&self.schema))
        }
    }
}

/// A statement, or a body of a function, and its tokens. Positions that are out of range are like tokens that are something else.
pub struct Sql<'a> {
    /// All of it.
    pub text: &'a [u8],
    /// Its tokens, without blanks and comments.
    pub tokens: Vec<Token>,
}

impl<'a> Sql<'a> {
    /// Reads the tokens of a text.
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { text, tokens: Lexer::new(text, dialect).collect() }
    }

    /// The bytes of a token, empty if there is none.
    pub fn bytes(&self, at: usize) -> &'a [u8] {
        self.tokens.get(at).map_or(b"", |token| &self.text[token.start..token.end])
    }

    /// Where a token begins in the text; the end of the text if there is none.
    pub fn start(&self, at: usize) -> usize {
        self.tokens.get(at).map_or(self.text.len(), |token| token.start)
    }

    /// Where the token before this one ends.
    pub fn end_before(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |token| token.end)
    }

    /// Whether a token is this key word (given in lower case).
    pub fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::Word)
            && self.bytes(at).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether the tokens from here are these key words.
    pub fn are(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(index, word)| self.is(at + index, word))
    }

    /// Whether a token is one of these key words.
    pub fn is_one_of(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// Behind these key words, which need not be there, in any order.
    pub fn skip(&self, mut at: usize, words: &[&str]) -> usize {
        while self.is_one_of(at, words) {
            at += 1;
        }
        at
    }

    /// Whether a token is this one byte.
    pub fn is_byte(&self, at: usize, byte: u8) -> bool {
        self.tokens.get(at).is_some_and(|token| matches!(token.kind, Kind::Other | Kind::Semicolon))
            && self.bytes(at) == [byte]
    }

    /// The identifier at a token: folded to lower case, or without its quotes.
    pub fn name(&self, at: usize) -> Option<Name> {
        match self.tokens.get(at)?.kind {
            Kind::Word => Some(self.bytes(at).to_ascii_lowercase()),
            Kind::Quoted { quote: Quote::Identifier, open, close } => {
                Some(without_doubled(&self.text[open..close], b'"'))
            }
            _ => None,
        }
    }

    /// A name, with or without a schema, and the token behind it.
    pub fn qualified(&self, at: usize) -> Option<(QualifiedName, usize)> {
        let first = self.name(at)?;
        match self.is_byte(at + 1, b'.').then(|| self.name(at + 2)).flatten() {
            Some(name) => Some((QualifiedName { schema: first, name }, at + 3)),
            None => Some((QualifiedName { schema: Name::new(), name: first }, at + 1)),
        }
    }

    /// The token of the parenthesis that closes the one at this token.
    pub fn closing(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in at..self.tokens.len() {
            if self.opens(at) {
                depth += 1;
            } else if self.closes(at) {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        None
    }

    /// The parts between two parentheses (the tokens `open` and `close`) that commas separate: the tokens from, and up to.
    pub fn parts(&self, open: usize, close: usize) -> Vec<(usize, usize)> {
        let (mut parts, mut from, mut depth) = (Vec::new(), open + 1, 0_usize);
        for at in open + 1..close {
            if self.opens(at) {
                depth += 1;
            } else if self.closes(at) {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && self.is_byte(at, b',') {
                parts.push((from, at));
                from = at + 1;
            }
        }
        if from < close {
            parts.push((from, close));
        }
        parts
    }

    /// The content of a string constant, without its quotes and escapes. `None` for others, and for `U&'…'`.
    pub fn literal(&self, at: usize) -> Option<Vec<u8>> {
        let Kind::Quoted { quote, open, close } = self.tokens.get(at)?.kind else { return None };
        // Bit strings look like plain ones.
        if self.bytes(at).first().is_some_and(|byte| matches!(byte, b'b' | b'B' | b'x' | b'X')) {
            return None;
        }
        let mut content = Vec::new();
        for (start, end) in pieces(self.text, quote, open, close) {
            let piece = &self.text[start..end];
            match quote {
                Quote::Plain => content.extend(without_doubled(piece, b'\'')),
                Quote::Backslash => content.extend(without_backslashes(piece)?),
                Quote::Dollar => content.extend_from_slice(piece),
                _ => return None,
            }
        }
        Some(content)
    }

    /// Whether a backslash is an escape in a string constant.
    pub fn is_escaped(&self, at: usize) -> bool {
        matches!(
            self.tokens.get(at).map(|token| token.kind),
            Some(Kind::Quoted { quote: Quote::Backslash, .. })
        )
    }

    /// How the statement begins: what it does to what.
    pub fn title(&self) -> String {
        let is_end = |at: &usize| {
            let is_constant =
                matches!(self.tokens[*at].kind, Kind::Quoted { quote, .. } if !quote.is_identifier());
            is_constant
                || self.is_byte(*at, b'(')
                || self.is_byte(*at, b';')
                || self.is_one_of(*at, &["as", "is"])
        };
        let end = (1..self.tokens.len()).find(is_end).unwrap_or(self.tokens.len());
        let text = String::from_utf8_lossy(&self.text[self.start(0)..self.end_before(end)]);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn opens(&self, at: usize) -> bool {
        self.is_byte(at, b'(') || self.is_byte(at, b'[')
    }

    fn closes(&self, at: usize) -> bool {
        self.is_byte(at, b')') || self.is_byte(at, b']')
    }
}

/// A string constant with this content. `backslashes`: in a form that is right whatever `standard_conforming_strings` is.
pub fn quoted(content: &[u8], backslashes: bool) -> Vec<u8> {
    let mut out = if backslashes { b"E'".to_vec() } else { b"'".to_vec() };
    for byte in content {
        if *byte == b'\'' || (*byte == b'\\' && backslashes) {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'\'');
    out
}

/// As `quote_identifier()` of PostgreSQL with `quote_all_identifiers`.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn without_doubled(piece: &[u8], mark: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(piece.len());
    let mut bytes = piece.iter().peekable();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == mark && bytes.peek() == Some(&&mark) {
            bytes.next();
        }
    }
    out
}

/// `None` for escapes of characters, which `pg_dump` does not write.
fn without_backslashes(piece: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(piece.len());
    let mut rest = piece;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [byte @ (b'\\' | b'\''), after @ ..]) | (b'\'', [byte @ b'\'', after @ ..]) => {
                out.push(*byte);
                after
            }
            (b'\\', _) => return None,
            _ => {
                out.push(*first);
                after
            }
        };
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sql(text: &str) -> Sql<'_> {
        Sql::new(text.as_bytes(), Dialect::default())
    }

    #[test]
    fn names() {
        let sql = sql("CREATE TABLE \"A \"\"b\".Foo (x int, y numeric(3, 1)[], z text)");
        let name = QualifiedName { schema: b"A \"b".to_vec(), name: b"foo".to_vec() };
        assert_eq!(sql.qualified(2), Some((name, 5)));
        let close = sql.closing(5);
        assert_eq!(close.map(|close| sql.parts(5, close).len()), Some(3));
        assert!(sql.are(0, &["create", "table"]) && sql.is_byte(5, b'(') && !sql.is_byte(99, b'('));
    }

    #[test]
    fn identifiers() {
        assert_eq!(quote_identifier("a \"b\""), "\"a \"\"b\"\"\"");
    }

    #[test]
    fn literals() {
        let sql = sql("'it''s' E'a\\'\\\\' $x$it's$x$ B'01' U&'x' 'a'\n'b' E'\\x41'");
        let literals: Vec<_> = (0..7).map(|at| sql.literal(at)).collect();
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(literals, [some("it's"), some("a'\\"), some("it's"), None, None, some("ab"), None]);
    }

    proptest! {
        #[test]
        fn quoted_is_read_back(content in "[a\\\\'\n\"$;é]{0,20}", backslashes: bool, old: bool) {
            prop_assume!(backslashes || !old);
            let text = quoted(content.as_bytes(), backslashes);
            let sql = Sql::new(&text, Dialect { backslashes: old, ..Dialect::default() });
            prop_assert_eq!(sql.tokens.len(), 1);
            prop_assert_eq!(sql.literal(0), Some(content.into_bytes()));
        }
    }
}
