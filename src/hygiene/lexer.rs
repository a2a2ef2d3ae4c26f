//! PostgreSQL's lexical syntax, read tolerantly: any bytes give tokens, and whatever is unterminated ends with the text. A
//! single pass that looks at no byte more than a few times. Uses nothing of the extension: the command-line tool compiles it too.

use memchr::{memchr, memchr2, memmem};

/// How something is quoted, and so which escapes it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// `'…'`, and bit strings.
    Plain,
    /// `E'…'`, and `'…'` without `standard_conforming_strings`.
    Backslash,
    /// `U&'…'`, with its escape character.
    Unicode(u8),
    /// `"…"`.
    Identifier,
    /// `U&"…"`, with its escape character.
    UnicodeIdentifier(u8),
    /// `"…"` in JSON.
    Json,
    /// `$tag$…$tag$`.
    Dollar,
}

impl Quote {
    /// The byte that ends it; `None` for dollar quotes.
    pub fn mark(self) -> Option<u8> {
        match self {
            Self::Plain | Self::Backslash | Self::Unicode(_) => Some(b'\''),
            Self::Identifier | Self::UnicodeIdentifier(_) | Self::Json => Some(b'"'),
            Self::Dollar => None,
        }
    }

    /// The byte that begins an escape.
    pub fn escape(self) -> Option<u8> {
        match self {
            Self::Backslash | Self::Json => Some(b'\\'),
            Self::Unicode(escape) | Self::UnicodeIdentifier(escape) => Some(escape),
            Self::Plain | Self::Identifier | Self::Dollar => None,
        }
    }

    /// Whether it quotes a name rather than a value.
    pub fn is_identifier(self) -> bool {
        self.mark() == Some(b'"')
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    Number,
    /// The content is from `open` to `close`. A string continued over several lines has quotes in between.
    Quoted {
        quote: Quote,
        open: usize,
        close: usize,
    },
    Semicolon,
    /// One byte.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// What kind of text it is.
#[derive(Clone, Copy, Default)]
pub struct Dialect {
    /// Whether a backslash escapes in `'…'`.
    pub backslashes: bool,
    /// Whether `"…"` is a JSON string.
    pub json: bool,
    /// Whether it is a message, in which an apostrophe need not open a string.
    pub prose: bool,
}

impl Dialect {
    /// The dialect of what is quoted in it: SQL.
    pub fn quoted(self) -> Self {
        Self { backslashes: self.backslashes, ..Self::default() }
    }
}

pub struct Lexer<'a> {
    text: &'a [u8],
    /// Where the search for the next token begins.
    pub at: usize,
    dialect: Dialect,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { text, at: 0, dialect }
    }

    fn quoted(&mut self, start: usize, open: usize, quote: Quote) -> Token {
        let text = self.text;
        let (mut close, mut quote) = (quote_end(text, open, quote), quote);
        if quote.mark() == Some(b'\'') {
            while let Some(next) = continuation(text, close + 1) {
                close = quote_end(text, next, quote);
            }
        }
        let mut end = text.len().min(close + 1);
        if let Quote::Unicode(escape) | Quote::UnicodeIdentifier(escape) = &mut quote
            && let Some((other, after)) = uescape(text, end)
        {
            (*escape, end) = (other, after);
        }
        Token { kind: Kind::Quoted { quote, open, close }, start, end }
    }

    fn dollar_quoted(&self, start: usize) -> Option<Token> {
        let text = self.text;
        let mut at = start + 1;
        if text.get(at).is_some_and(|byte| starts_word(*byte)) {
            while text.get(at).is_some_and(|byte| in_word(*byte) && *byte != b'$') {
                at += 1;
            }
        }
        if text.get(at) != Some(&b'$') {
            return None;
        }
        let open = at + 1;
        let tag = &text[start..open];
        let close = memmem::find(&text[open..], tag).map_or(text.len(), |at| open + at);
        let end = text.len().min(close + tag.len());
        Some(Token { kind: Kind::Quoted { quote: Quote::Dollar, open, close }, start, end })
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let (text, start) = (self.text, skip_blanks(self.text, self.at));
        let first = *text.get(start)?;
        let plain = if self.dialect.backslashes { Quote::Backslash } else { Quote::Plain };
        let token = match (first, &text[start + 1..]) {
            (b'\'', [next, ..])
                if self.dialect.prose
                    && next.is_ascii_lowercase()
                    && text[..start].last().is_some_and(u8::is_ascii_alphabetic) =>
            {
                Token { kind: Kind::Other, start, end: start + 1 }
            }
            (b'\'', _) => self.quoted(start, start + 1, plain),
            (b'"', _) if self.dialect.json => self.quoted(start, start + 1, Quote::Json),
            (b'"', _) => self.quoted(start, start + 1, Quote::Identifier),
            (b'e' | b'E', [b'\'', ..]) => self.quoted(start, start + 2, Quote::Backslash),
            (b'b' | b'B' | b'x' | b'X', [b'\'', ..]) => self.quoted(start, start + 2, Quote::Plain),
            (b'u' | b'U', [b'&', b'\'', ..]) => self.quoted(start, start + 3, Quote::Unicode(b'\\')),
            (b'u' | b'U', [b'&', b'"', ..]) => self.quoted(start, start + 3, Quote::UnicodeIdentifier(b'\\')),
            (b';', _) => Token { kind: Kind::Semicolon, start, end: start + 1 },
            (b'$', _) => {
                self.dollar_quoted(start).unwrap_or(Token { kind: Kind::Other, start, end: start + 1 })
            }
            _ => {
                let (kind, length) = if starts_word(first) {
                    (Kind::Word, run(&text[start..], in_word))
                } else if first.is_ascii_digit() {
                    (Kind::Number, run(&text[start..], |byte| byte.is_ascii_digit()))
                } else {
                    (Kind::Other, 1)
                };
                Token { kind, start, end: start + length }
            }
        };
        self.at = token.end;
        Some(token)
    }
}

fn run(text: &[u8], is_in: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !is_in(*byte)).unwrap_or(text.len())
}

pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn in_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Skips white space and comments.
fn skip_blanks(text: &[u8], mut at: usize) -> usize {
    loop {
        at = match text.get(at..).unwrap_or_default() {
            [b'-', b'-', ..] => line_end(text, at),
            [b'/', b'*', ..] => comment_end(text, at),
            [byte, ..] if is_blank(*byte) => at + 1,
            _ => return at,
        };
    }
}

fn line_end(text: &[u8], at: usize) -> usize {
    memchr2(b'\n', b'\r', &text[at..]).map_or(text.len(), |end| at + end)
}

/// Comments nest.
fn comment_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start + 2, 1_usize);
    while depth > 0 {
        let Some(next) = memchr2(b'/', b'*', &text[at..]) else { return text.len() };
        at += next;
        (at, depth) = match &text[at..] {
            [b'/', b'*', ..] => (at + 2, depth + 1),
            [b'*', b'/', ..] => (at + 2, depth - 1),
            _ => (at + 1, depth),
        };
    }
    at
}

/// The position of the quote that ends a piece; the end of the text if there is none.
fn quote_end(text: &[u8], open: usize, quote: Quote) -> usize {
    let Some(mark) = quote.mark() else { return text.len() };
    let has_backslashes = matches!(quote, Quote::Backslash | Quote::Json);
    let mut at = open;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let next = if has_backslashes { memchr2(mark, b'\\', rest) } else { memchr(mark, rest) };
        let Some(next) = next else { return text.len() };
        at += next;
        let is_escape = text[at] != mark || (text.get(at + 1) == Some(&mark) && quote != Quote::Json);
        if !is_escape {
            return at;
        }
        at += 2;
    }
}

/// Where a string continues: on another line, with only blanks and `--` comments in between.
fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut is_other_line = false;
    loop {
        match text.get(at..).unwrap_or_default() {
            [b'-', b'-', ..] => at = line_end(text, at),
            [b'\'', ..] => return is_other_line.then_some(at + 1),
            [byte, ..] if is_blank(*byte) => {
                is_other_line |= matches!(byte, b'\n' | b'\r');
                at += 1;
            }
            _ => return None,
        }
    }
}

/// The escape character of a following `UESCAPE 'c'`, and where the clause ends.
fn uescape(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let word = skip_blanks(text, at);
    if !text.get(word..word + 7)?.eq_ignore_ascii_case(b"uescape") {
        return None;
    }
    let quote = skip_blanks(text, word + 7);
    match text.get(quote..)? {
        [b'\'', escape, b'\'', ..] => Some((*escape, quote + 3)),
        _ => None,
    }
}

/// The pieces of what is quoted, without their quotes.
pub fn pieces(text: &[u8], quote: Quote, open: usize, close: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = Some(open);
    std::iter::from_fn(move || {
        let start = next.take()?;
        if quote == Quote::Dollar {
            return Some((start, close));
        }
        let end = quote_end(text, start, quote);
        if end < close {
            next = continuation(text, end + 1);
        }
        Some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of a text; quoted ones with their kind.
    fn tokens(text: &str, dialect: Dialect) -> Vec<String> {
        let bytes = text.as_bytes();
        Lexer::new(bytes, dialect)
            .map(|token| match token.kind {
                Kind::Quoted { quote, open, close } => {
                    let content: Vec<_> = pieces(bytes, quote, open, close)
                        .map(|(start, end)| text[start..end].to_owned())
                        .collect();
                    format!("{quote:?}:{}", content.join("+"))
                }
                _ => text[token.start..token.end].to_owned(),
            })
            .collect()
    }

    #[test]
    fn reads_what_postgresql_reads() {
        for (text, expected) in [
            ("SET a.b='x'", &["SET", "a", ".", "b", "=", "Plain:x"][..]),
            ("a -- 'b\nc /* /* ' */ ; */ d", &["a", "c", "d"]),
            ("'it''s' \"a\"\"b\"", &["Plain:it''s", "Identifier:a\"\"b"]),
            ("E'a\\'b' 'a\\' x", &["Backslash:a\\'b", "Plain:a\\", "x"]),
            ("U&'a!0062' UESCAPE '!' u&\"x\"", &["Unicode(33):a!0062", "UnicodeIdentifier(92):x"]),
            ("'a'\n -- c\n 'b' 'c'", &["Plain:a+b", "Plain:c"]),
            ("$$a;$$;$q$ $$ $q$ $1", &["Dollar:a;", ";", "Dollar: $$ ", "$", "1"]),
            ("a$$b x'1f' 12e", &["a$$b", "Plain:1f", "12", "e"]),
            ("'open", &["Plain:open"]),
            ("$x$ open", &["Dollar: open"]),
            ("/* open", &[]),
            ("é_1 ü", &["é_1", "ü"]),
        ] {
            assert_eq!(tokens(text, Dialect::default()), expected, "{text}");
        }
        let old = Dialect { backslashes: true, ..Dialect::default() };
        assert_eq!(tokens("'a\\' b' c", old), ["Backslash:a\\' b", "c"]);
        let json = Dialect { json: true, ..Dialect::default() };
        assert_eq!(tokens("\"a\\\"b\": 'x'", json), ["Json:a\\\"b", ":", "Plain:x"]);
        let prose = Dialect { prose: true, ..Dialect::default() };
        assert_eq!(tokens("can't 'x' e'y'", prose), ["can", "'", "t", "Plain:x", "Backslash:y"]);
    }

    #[test]
    fn ends_with_the_text_wherever_it_is_cut() {
        let text = "SET U&\"a\" UESCAPE '!' = E'\\'' 'x'\n'y' $t$ $t$ /* /* */ */ -- z\n;\"q\"\"\" 1";
        for end in 0..=text.len() {
            let all = tokens(&text[..end], Dialect::default());
            assert!(all.len() <= text.len());
        }
    }
}
