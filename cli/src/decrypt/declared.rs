//! What a file says of its table, which a stranger may have written, as parts of statements that can do nothing but define a table.

use crate::decrypt::sql::quote_identifier;
use crate::lexer::{Dialect, Kind, Lexer, Quote, Token};

/// Words that a type may have after its name.
const TYPE_WORDS: &str = "precision varying with without time zone year month day hour minute second to";
/// Functions of PostgreSQL that only compute, or tell the time.
const FUNCTIONS: &str = "\
    abs array_append array_length array_to_string btrim cardinality ceil ceiling char_length clock_timestamp \
    concat concat_ws date_part date_trunc decode encode extract floor format gen_random_uuid initcap \
    jsonb_build_array jsonb_build_object left length lower lpad ltrim make_date make_interval make_time \
    make_timestamp md5 mod nextval now octet_length overlay position power random regexp_replace repeat \
    replace reverse right round rpad rtrim sha256 sign split_part sqrt statement_timestamp string_to_array \
    strpos substr substring timezone to_char to_date to_json to_jsonb to_number to_timestamp \
    transaction_timestamp translate trim trunc upper";
/// Other words that a bracket may follow: of expressions, and types with modifiers.
const BEFORE_BRACKETS: &str = "\
    all and any as between bit bpchar case cast char character coalesce else from greatest ilike in interval \
    is least like not nullif numeric or row then time timestamp varchar varying when";
/// Words that begin a query.
const QUERIES: &str = "select table values";
/// Signs in expressions, operators among them. A colon only stands twice.
const SIGNS: &[u8] = b"()[],.+-*/<>=~!@#%^&|?:";

/// The name of a table or collation, of at most two parts, each in quotes.
pub fn name(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let parts = match tokens.as_slice() {
        [one] => vec![one],
        [schema, dot, one] if is_sign(text, dot, b'.') => vec![schema, one],
        _ => return None,
    };
    let parts: Option<Vec<_>> = parts.into_iter().map(|part| part_of_name(text, part)).collect();
    Some(parts?.join("."))
}

fn part_of_name(text: &str, token: &Token) -> Option<String> {
    match token.kind {
        Kind::Word => Some(quote_identifier(&word(text, token))),
        Kind::Quoted { quote: Quote::Identifier, .. } => text.get(token.start..token.end).map(str::to_owned),
        _ => None,
    }
}

/// Whether a text is a type and nothing else: no other part of a column's definition.
pub fn is_type(text: &str) -> bool {
    let Some(tokens) = tokens(text) else { return false };
    let mut rest = tokens.as_slice();
    let is_name = |token: &Token| part_of_name(text, token).is_some();
    match rest {
        [schema, dot, name, ..] if is_sign(text, dot, b'.') && is_name(schema) && is_name(name) => {
            rest = rest.get(3..).unwrap_or_default();
        }
        [name, ..] if is_name(name) => rest = rest.get(1..).unwrap_or_default(),
        _ => return false,
    }
    let mut is_modifier = false;
    rest.iter().all(|token| match token.kind {
        Kind::Word if is_modifier => true,
        Kind::Word => is_listed(TYPE_WORDS, &word(text, token)),
        Kind::Number => true,
        Kind::Quoted { quote: Quote::Plain, .. } => is_modifier,
        Kind::Other => match text.as_bytes().get(token.start) {
            Some(b'(') => !std::mem::replace(&mut is_modifier, true),
            Some(b')') => std::mem::replace(&mut is_modifier, false),
            Some(b',' | b'-') => is_modifier,
            Some(b'[' | b']') => !is_modifier,
            _ => false,
        },
        _ => false,
    }) && !is_modifier
}

/// Whether an expression only computes: it has no query, and calls no other functions than [`FUNCTIONS`].
pub fn is_computation(text: &str) -> bool {
    let Some(tokens) = tokens(text).filter(|tokens| !tokens.is_empty()) else { return false };
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let is_allowed = match token.kind {
            Kind::Word => match word(text, token).as_str() {
                // As in `timestamp with time zone`.
                "with" => before.is_some_and(|before| !is_sign(text, before, b'(')),
                word => !is_listed(QUERIES, word),
            },
            Kind::Number | Kind::Quoted { quote: Quote::Plain | Quote::Identifier, .. } => true,
            Kind::Other => match text.as_bytes().get(token.start).copied() {
                Some(sign @ (b'(' | b'[')) => {
                    open.push(sign);
                    sign == b'[' || may_stand_before_bracket(text, &tokens, at)
                }
                Some(b')') => open.pop() == Some(b'('),
                Some(b']') => open.pop() == Some(b'['),
                Some(b':') => {
                    let is_colon = |token: Option<&Token>| token.is_some_and(|it| is_sign(text, it, b':'));
                    let touches = |one: Option<&Token>, other: Option<&Token>| {
                        one.zip(other).is_some_and(|(one, other)| one.end == other.start)
                    };
                    let next = tokens.get(at + 1);
                    is_colon(before) && touches(before, Some(token))
                        || is_colon(next) && touches(Some(token), next)
                }
                Some(sign) => SIGNS.contains(&sign),
                None => false,
            },
            _ => false,
        };
        if !is_allowed {
            return false;
        }
    }
    open.is_empty()
}

/// A function's name or another word, or the sign of an operator. What is in quotes, or has a schema, is of no list.
fn may_stand_before_bracket(text: &str, tokens: &[Token], at: usize) -> bool {
    let before = |count: usize| at.checked_sub(count).and_then(|before| tokens.get(before));
    let Some(named) = before(1) else { return true };
    match named.kind {
        Kind::Word => {
            let word = word(text, named);
            match before(2).filter(|dot| is_sign(text, dot, b'.')) {
                None => is_listed(FUNCTIONS, &word) || is_listed(BEFORE_BRACKETS, &word),
                Some(_) => {
                    let schema = before(3).filter(|schema| schema.kind == Kind::Word);
                    schema.is_some_and(|schema| self::word(text, schema) == "pg_catalog")
                        && before(4).is_none_or(|sign| !is_sign(text, sign, b'.'))
                        && is_listed(FUNCTIONS, &word)
                }
            }
        }
        Kind::Other => !is_sign(text, named, b')') && !is_sign(text, named, b']'),
        _ => false,
    }
}

/// All that the text consists of. `None` if there is more, or something that is not closed: a comment or an open quote would go on in
/// what follows the text.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let bytes = text.as_bytes();
    let mut end = 0;
    let mut tokens = Vec::new();
    let is_blank = |from: usize, to: usize| {
        bytes.get(from..to).is_some_and(|gap| gap.iter().all(u8::is_ascii_whitespace))
    };
    for token in Lexer::new(bytes, Dialect::default()) {
        let is_whole = match token.kind {
            Kind::Quoted { quote, open, close } => {
                let mark = quote.mark();
                let opening = open.checked_sub(1).and_then(|at| bytes.get(at));
                // Neither a bit string nor a string in several parts.
                token.start + 1 == open
                    && close + 1 == token.end
                    && bytes.get(close).copied() == mark
                    && opening.copied() == mark
            }
            _ => true,
        };
        if !is_whole || !is_blank(end, token.start) || text.contains('\0') {
            return None;
        }
        end = token.end;
        tokens.push(token);
    }
    is_blank(end, bytes.len()).then_some(tokens)
}

fn is_listed(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == word)
}

/// As PostgreSQL folds it.
fn word(text: &str, token: &Token) -> String {
    text.get(token.start..token.end).unwrap_or_default().to_ascii_lowercase()
}

fn is_sign(text: &str, token: &Token, sign: u8) -> bool {
    token.kind == Kind::Other && text.as_bytes().get(token.start) == Some(&sign)
}

#[cfg(test)]
mod tests {
    use super::{is_computation, is_type, name};

    #[test]
    fn names() {
        for (text, expected) in [
            ("public.clients", Some("\"public\".\"clients\"")),
            ("Clients", Some("\"clients\"")),
            ("\"Odd \"\"name\n\".\"x\\! y\"", Some("\"Odd \"\"name\n\".\"x\\! y\"")),
            ("query", Some("\"query\"")),
            ("x\n\\! touch owned\n", None),
            ("x (a int); --", None),
            ("x --", None),
            ("x /*", None),
            ("\"x", None),
            ("a.b.c", None),
            ("U&\"x\"", None),
            ("", None),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn types() {
        for text in [
            "integer",
            "numeric(10,2)",
            "numeric(3,-2)",
            "character varying(10)",
            "double precision",
            "timestamp(3) with time zone",
            "interval day to second(3)",
            "\"char\"",
            "public.encrypted_text('email', 'searchable')",
            "text[]",
            "public.\"Odd type\"[]",
            "public.geometry(Point,4326)",
        ] {
            assert!(is_type(text), "{text}");
        }
        for text in [
            "",
            "integer\n\\! touch owned\n",
            "integer); CREATE TABLE t (",
            "integer); CREATE TABLE t (a int); --",
            "integer DEFAULT pg_sleep(1)",
            "integer CHECK (true)",
            "integer, b integer",
            "integer(1",
            "integer)",
            "integer /*",
            "integer --",
            "integer E'\\''",
            "numeric((1))",
            "a.b.c",
            "int REFERENCES x",
            "int COLLATE x",
        ] {
            assert!(!is_type(text), "{text}");
        }
    }

    #[test]
    fn expressions() {
        for text in [
            "0",
            "'it''s'::text",
            "now()",
            "(now() AT TIME ZONE 'utc'::text)",
            "nextval('public.s'::regclass)",
            "(a + 1) * length('x)')",
            "CASE WHEN (a > 0) THEN 'x'::text ELSE lower((b)::text) END",
            "'{}'::text[]",
            "ARRAY['a'::text, 'b'::text]",
            "('now'::text)::date",
            "COALESCE(a, 1) || pg_catalog.upper(\"B\")",
            "(round(x, 2))::numeric(10,2)",
            "'a\\! b'::text",
            "CURRENT_TIMESTAMP",
            "'2026-01-01 00:00:00+00'::timestamp with time zone",
            "'1'::timestamp(3) with time zone",
            "a IN (1, 2)",
        ] {
            assert!(is_computation(text), "{text}");
        }
        for text in [
            "",
            "1); CREATE TABLE t(); PERFORM (1",
            "1;",
            "1) STORED, b int DEFAULT (1",
            "pg_read_file('x')",
            "\"now\"()",
            "public.now()",
            "x.pg_catalog.now()",
            "(SELECT 1)",
            "(TABLE t)",
            "(VALUES (1))",
            "(WITH q AS (f) g)",
            "with q",
            "1 OPERATOR(public.+) 1",
            "1\n\\! touch owned\n",
            "1 \\gexec",
            ":x",
            ":'x'",
            ":\"x\"",
            "a[1:2]",
            "1: :2",
            "`x`",
            "$1",
            "$x$",
            "E'\\''",
            "'x",
            "\"x",
            "1 --",
            "1 /*",
            "1 /* */",
            "(1",
            "1]",
            "(1]",
            "f (1)",
            "(f)(1)",
            "now () . x (1)",
        ] {
            assert!(!is_computation(text), "{text}");
        }
    }
}
