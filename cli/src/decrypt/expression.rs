//! Expressions of a file's definition, which a stranger may have written: only those are made that compute, and what they call is known.

use super::name::{identifier, tokens};
use crate::lexer::{Kind, Quote};
use crate::sql::{Sql, quoted};

/// Functions of PostgreSQL that compute, or give a time, a random or the next value.
const FUNCTIONS: &str = "\
    abs age array_append array_cat array_length array_position array_prepend array_remove array_to_string ascii \
    bit_length btrim cardinality ceil ceiling char_length character_length chr clock_timestamp coalesce concat \
    concat_ws current_database current_schema current_time current_timestamp date date_bin date_part date_trunc \
    daterange decode encode extract floor format gen_random_uuid greatest initcap int4range int8range \
    json_build_array json_build_object jsonb_build_array jsonb_build_object jsonb_extract_path_text justify_days \
    justify_hours justify_interval least left length ln localtime localtimestamp log lower lpad ltrim make_date \
    make_interval make_time make_timestamp make_timestamptz md5 mod nextval now nullif numrange octet_length \
    overlay power random regexp_replace replace reverse right round rpad rtrim setweight sha224 sha256 sha384 \
    sha512 sign split_part sqrt starts_with statement_timestamp strpos substr substring timeofday timezone \
    to_char to_date to_json to_jsonb to_number to_timestamp to_tsvector transaction_timestamp translate trim \
    trunc tsrange tstzrange upper uuidv4 uuidv7";

/// Key words and types that a parenthesis may follow.
const WORDS: [&str; 31] = [
    "all",
    "and",
    "any",
    "between",
    "bit",
    "bpchar",
    "case",
    "cast",
    "char",
    "character",
    "decimal",
    "else",
    "float",
    "from",
    "ilike",
    "interval",
    "is",
    "like",
    "not",
    "numeric",
    "or",
    "row",
    "some",
    "then",
    "time",
    "timestamp",
    "to",
    "varchar",
    "varying",
    "when",
    "zone",
];

/// What begins a query, wherever it stands.
const QUERIES: [&str; 4] = ["select", "table", "values", "exists"];

/// The expression as it may stand in a statement; otherwise, what is not known in it.
pub fn expression(text: &str) -> Result<String, &'static str> {
    let sql = tokens(text).filter(|sql| !sql.tokens.is_empty()).ok_or("it has comments, or nothing")?;
    let mut written = Written { out: String::new(), open: Vec::new(), at: 0 };
    while written.at < sql.tokens.len() {
        written.token(&sql)?;
    }
    if written.open.is_empty() { Ok(written.out) } else { Err(BRACKETS) }
}

const BRACKETS: &str = "its brackets are not in pairs";
const SIGNS: &str = "it has signs that are not known here";
const CALLS: &str = "it calls a function that is not known here";
const NAMES: &str = "it names what is not in pg_catalog";

struct Written {
    out: String,
    open: Vec<u8>,
    at: usize,
}

impl Written {
    /// Copies a token, or some.
    fn token(&mut self, sql: &Sql<'_>) -> Result<(), &'static str> {
        let Some(token) = sql.tokens.get(self.at) else { return Ok(()) };
        match token.kind {
            Kind::Word | Kind::Quoted { quote: Quote::Identifier, .. } => return self.name(sql),
            Kind::Number => self.copy(sql)?,
            Kind::Quoted { quote: Quote::Plain | Quote::Backslash, .. } => self.literal(sql)?,
            Kind::Quoted { .. } | Kind::Semicolon => return Err(SIGNS),
            Kind::Other => self.sign(sql)?,
        }
        self.at += 1;
        Ok(())
    }

    /// A blank, where the text has some.
    fn gap(&mut self, sql: &Sql<'_>) {
        if sql.end_before(self.at) < sql.start(self.at) && !self.out.is_empty() {
            self.out.push(' ');
        }
    }

    fn copy(&mut self, sql: &Sql<'_>) -> Result<(), &'static str> {
        self.gap(sql);
        self.out.push_str(std::str::from_utf8(sql.bytes(self.at)).map_err(|_| SIGNS)?);
        Ok(())
    }

    /// Constants in a form that is right whatever `standard_conforming_strings` is.
    fn literal(&mut self, sql: &Sql<'_>) -> Result<(), &'static str> {
        // A word just before it would be its prefix.
        let is_joined = sql.end_before(self.at) == sql.start(self.at);
        if is_joined
            && self.out.ends_with(|last: char| {
                !last.is_ascii() || last.is_ascii_alphanumeric() || "_$'\"&".contains(last)
            })
        {
            return Err(SIGNS);
        }
        let Some(content) = sql.literal(self.at) else {
            let is_bits = sql
                .bytes(self.at)
                .split(|byte| *byte == b'\'')
                .nth(1)
                .is_some_and(|bits| bits.iter().all(u8::is_ascii_hexdigit));
            let is_one = sql.bytes(self.at).iter().filter(|byte| **byte == b'\'').count() == 2;
            return if is_bits && is_one { self.copy(sql) } else { Err(SIGNS) };
        };
        self.gap(sql);
        let content = quoted(&content, content.contains(&b'\\'));
        self.out.push_str(std::str::from_utf8(&content).map_err(|_| SIGNS)?);
        Ok(())
    }

    fn sign(&mut self, sql: &Sql<'_>) -> Result<(), &'static str> {
        let sign = sql.bytes(self.at).first().copied().unwrap_or_default();
        let is_next = |at: usize, byte| sql.is_byte(at, byte) && sql.end_before(at) == sql.start(at);
        let is_number = |at: usize| sql.tokens.get(at).is_some_and(|token| token.kind == Kind::Number);
        match sign {
            b'(' | b'[' => self.open.push(sign),
            b')' | b']' => {
                let expected = if sign == b')' { b'(' } else { b'[' };
                if self.open.pop() != Some(expected) {
                    return Err(BRACKETS);
                }
            }
            // Any other colon is a variable of psql's.
            b':' if is_next(self.at + 1, b':') && !sql.is_byte(self.at + 2, b':') => {
                self.copy(sql)?;
                self.at += 1;
            }
            b'.' if is_number(self.at + 1) || self.at.checked_sub(1).is_some_and(is_number) => {}
            b',' | b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%'
            | b'^' | b'&' | b'|' | b'?' => {}
            _ => return Err(SIGNS),
        }
        self.copy(sql)
    }

    /// A word, a column, a function or a type.
    fn name(&mut self, sql: &Sql<'_>) -> Result<(), &'static str> {
        let is_type = self.out.ends_with("::");
        let is_qualified = sql.is_byte(self.at + 1, b'.');
        let last = self.at + if is_qualified { 2 } else { 0 };
        let name = sql.name(last).and_then(|name| String::from_utf8(name).ok()).ok_or(NAMES)?;
        let is_word = |at: usize| sql.tokens.get(at).is_some_and(|token| token.kind == Kind::Word);
        if sql.is_byte(last + 1, b'.') {
            return Err(NAMES);
        }
        if is_qualified && !is_type && sql.name(self.at).as_deref() != Some(b"pg_catalog") {
            return Err(NAMES);
        }
        if is_word(last) && QUERIES.contains(&name.as_str()) {
            return Err("it has a query");
        }
        if sql.is_byte(last + 1, b'(') && !(is_qualified && is_type) {
            let is_key_word = !is_qualified && is_word(last) && WORDS.contains(&name.as_str());
            if !is_key_word && !FUNCTIONS.split(' ').any(|known| known == name) {
                return Err(CALLS);
            }
        }
        while self.at <= last {
            match is_word(self.at) || sql.is_byte(self.at, b'.') {
                true => self.copy(sql)?,
                false => {
                    self.gap(sql);
                    self.out.push_str(&identifier(sql, self.at).ok_or(NAMES)?);
                }
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::expression;

    #[test]
    fn what_computes_is_kept() {
        for text in [
            "1",
            "'-1.5'::numeric(5,2)",
            "(1.5 + .5e3)",
            "now()",
            "pg_catalog.now()",
            "CURRENT_TIMESTAMP",
            "nextval('public.s'::regclass)",
            "'it''s ok'::public.mood",
            "('x'::text || 'a; b'::text)",
            "((a * 2) > 3)",
            "upper(\"B c\")",
            "\"left\"(a, 1)",
            "(now() AT TIME ZONE 'utc'::text)",
            "CASE WHEN (a = ANY (ARRAY[1, 2])) THEN 'x'::character varying(10) ELSE NULL::character varying END",
            "('now'::text)::timestamp(3) without time zone",
            "COALESCE(a, 'x'::text) COLLATE \"C\"",
            "B'0101'::\"bit\"",
            "'$default$'::text",
            "'a'::public.encrypted_text('personal')",
            "arr[1]",
            "TRIM(BOTH FROM a)",
            "EXTRACT(year FROM a)",
            "CURRENT_TIMESTAMP(3)",
            "to_tsvector('english'::regconfig, COALESCE(a, ''::text))",
            "((j -> 'a'::text) ->> 'b'::text)",
            "(a IS DISTINCT FROM (b))",
        ] {
            assert_eq!(expression(text).as_deref(), Ok(text));
        }
        assert_eq!(expression("'\\x00'::bytea").as_deref(), Ok("E'\\\\x00'::bytea"));
        assert_eq!(expression("E'a\\\\'").as_deref(), Ok("E'a\\\\'"));
    }

    #[test]
    fn the_rest_is_left_out() {
        for text in [
            "",
            "1); CREATE TABLE pwned1(); PERFORM (1",
            "1) STORED, b int DEFAULT (2",
            "1; SELECT 2",
            "(1]",
            "(1",
            "1 -- x",
            "1 /* x */",
            "1\n\\! touch /tmp/pwned\n",
            "\\gexec",
            ":x",
            ":'x'",
            ":\"x\"",
            ":{?x}",
            ":::x",
            "a[1:x]",
            "1::int:x",
            "(SELECT 1)",
            "(VALUES (1))",
            "(TABLE pg_authid)",
            "a IN (SELECT 1)",
            "1 IN (2)",
            "EXISTS (SELECT)",
            "ARRAY(SELECT 1)",
            "pg_read_file('/etc/passwd')",
            "pg_catalog.pg_read_file('x')",
            "pg_catalog . \"pg_read_file\" ('x')",
            "\"pg_read_file\"('x')",
            "public.lower('x')",
            "public.lower",
            "\"any\"('x')",
            "\"LOWER\"('x')",
            "pg_catalog.row('x')",
            "a.b",
            "(p).f",
            "t.*",
            "a OPERATOR(public.+) b",
            "1 + query_to_xml('x', true, true, '')",
            "U&'x'",
            "$$x$$",
            "$1",
            "N'x'",
            "x'1g'",
            "E'\\x27'",
            "a`b",
            "a\0",
        ] {
            assert!(expression(text).is_err(), "{text}: {:?}", expression(text));
        }
    }
}
