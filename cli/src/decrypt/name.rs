//! Names and types of a file's definition, as they may stand in a statement: whatever a stranger wrote there, it is a name or a type.

use crate::lexer::{Dialect, Kind, Quote};
use crate::sql::{Sql, quote_identifier};

/// Types that are more words than one, without their modifiers.
const TYPES_OF_WORDS: [&str; 9] = [
    "double precision",
    "character varying",
    "bit varying",
    "national character",
    "national character varying",
    "timestamp with time zone",
    "timestamp without time zone",
    "time with time zone",
    "time without time zone",
];

/// What an interval may be restricted to.
const FIELDS: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "to"];

/// The tokens of a text, if it has no comments and no zero bytes.
pub fn tokens(text: &str) -> Option<Sql<'_>> {
    let sql = Sql::new(text.as_bytes(), Dialect::default());
    let is_blank = |from: usize, to: usize| {
        sql.text.get(from..to).is_some_and(|gap| gap.iter().all(|byte| crate::lexer::is_blank(*byte)))
    };
    let is_plain = (0..=sql.tokens.len()).all(|at| is_blank(sql.end_before(at), sql.start(at)));
    (is_plain && !text.contains('\0')).then_some(sql)
}

/// The identifier at a token, in quotes.
pub fn identifier(sql: &Sql<'_>, at: usize) -> Option<String> {
    Some(quote_identifier(&String::from_utf8(sql.name(at)?).ok()?))
}

/// A name with or without its schema, in quotes. `None` if the text is none.
pub fn qualified(text: &str) -> Option<(Option<String>, String)> {
    let sql = tokens(text)?;
    let first = identifier(&sql, 0)?;
    match sql.tokens.len() {
        1 => Some((None, first)),
        3 if sql.is_byte(1, b'.') => Some((Some(first), identifier(&sql, 2)?)),
        _ => None,
    }
}

/// A collation: a name.
pub fn collation(text: &str) -> Option<String> {
    Some(match qualified(text)? {
        (Some(schema), name) => format!("{schema}.{name}"),
        (None, name) => name,
    })
}

/// A type, as it may stand in a statement: a name, its modifiers, and whether it is an array. `None` if the text is something else.
pub fn sql_type(text: &str) -> Option<String> {
    let sql = tokens(text)?;
    let mut written = String::new();
    let mut at = 0;
    if sql.is_byte(1, b'.') {
        written = format!("{}.{}", part(&sql, 0)?, part(&sql, 2)?);
        at = 3;
    } else if !matches!(sql.tokens.first()?.kind, Kind::Word) {
        written = identifier(&sql, 0)?;
        at = 1;
    }
    // Words stand before and behind the modifiers.
    let mut words = Vec::new();
    let is_of_words = at == 0;
    let mut has_modifiers = false;
    loop {
        if is_of_words && sql.tokens.get(at).is_some_and(|token| token.kind == Kind::Word) {
            let word = part(&sql, at)?;
            if !words.is_empty() {
                written.push(' ');
            }
            written.push_str(&word);
            words.push(word.to_ascii_lowercase());
            at += 1;
        } else if sql.is_byte(at, b'(') && !has_modifiers {
            has_modifiers = true;
            let close = sql.closing(at)?;
            written.push_str(&modifiers(&sql, at, close)?);
            at = close + 1;
        } else {
            break;
        }
    }
    let words = words.join(" ");
    let is_interval = words
        .strip_prefix("interval ")
        .is_some_and(|fields| fields.split(' ').all(|field| FIELDS.contains(&field)));
    if words.contains(' ') && !is_interval && !TYPES_OF_WORDS.contains(&words.as_str()) {
        return None;
    }
    while sql.is_byte(at, b'[') {
        at += 1;
        let is_sized = sql.tokens.get(at).is_some_and(|token| token.kind == Kind::Number);
        let size = if is_sized { part(&sql, at)? } else { String::new() };
        at += usize::from(is_sized);
        if !sql.is_byte(at, b']') {
            return None;
        }
        at += 1;
        written.push_str(&format!("[{size}]"));
    }
    (at == sql.tokens.len()).then_some(written)
}

/// A word or number as it is, or a quoted identifier.
fn part(sql: &Sql<'_>, at: usize) -> Option<String> {
    match sql.tokens.get(at)?.kind {
        Kind::Word | Kind::Number => String::from_utf8(sql.bytes(at).to_vec()).ok(),
        _ => identifier(sql, at),
    }
}

/// What stands in brackets: words, numbers, and constants without backslashes, with commas between them.
fn modifiers(sql: &Sql<'_>, open: usize, close: usize) -> Option<String> {
    let mut written = Vec::new();
    for (from, to) in sql.parts(open, close) {
        let is_negative = sql.is_byte(from, b'-');
        let at = from + usize::from(is_negative);
        if at + 1 != to {
            return None;
        }
        written.push(match sql.tokens.get(at)?.kind {
            Kind::Number if is_negative => format!("-{}", part(sql, at)?),
            _ if is_negative => return None,
            Kind::Quoted { quote: Quote::Plain, .. } => {
                let content = String::from_utf8(sql.literal(at)?).ok()?;
                if content.contains('\\') {
                    return None;
                }
                format!("'{}'", content.replace('\'', "''"))
            }
            _ => part(sql, at)?,
        });
    }
    (!written.is_empty()).then(|| format!("({})", written.join(",")))
}

#[cfg(test)]
mod tests {
    use super::{collation, qualified, sql_type};

    #[test]
    fn types_stay_as_they_are() {
        for text in [
            "integer",
            "numeric(10,-2)[]",
            "character varying(10)",
            "timestamp(3) without time zone[]",
            "interval day to second(3)",
            "\"char\"",
            "public.encrypted_text('personal')",
            "public.\"a \"\"b\"[3]",
            "\"x\ny\".geometry(Point,4326)",
            "double precision",
        ] {
            assert_eq!(sql_type(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_more_is_no_type() {
        for text in [
            "",
            "integer\n\\! touch /tmp/pwned\n",
            "integer); CREATE TABLE pwned4(); --",
            "integer -- x",
            "integer /* x */",
            "text DEFAULT pg_read_file('/etc/passwd')",
            "text CHECK (f('x'))",
            "text COLLATE \"C\"",
            "int REFERENCES t (a)",
            "public.x CHECK (true)",
            "public.x NOT NULL",
            "numeric(10,(SELECT 1))",
            "numeric(f(1))",
            "x.y.z",
            "setof integer",
            "public.t.a%TYPE",
            "varchar('\\')",
            "varchar(E'x')",
            "varchar(:x)",
            "varchar()",
            ":x",
            "U&\"x\"",
            "int[:x]",
            "int[1",
            "int(1)(2)",
            "int\0",
            "interval day to second default",
        ] {
            assert_eq!(sql_type(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_quoted() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(qualified("public.\"A \"\"b\""), Some((some("\"public\""), "\"A \"\"b\"".to_owned())));
        assert_eq!(qualified("t"), Some((None, "\"t\"".to_owned())));
        assert_eq!(collation("pg_catalog.\"C\""), some("\"pg_catalog\".\"C\""));
        for text in ["t; DROP", "t (", "a.b.c", "t\n\\! x", "", "t --", "a\0", ":t"] {
            assert_eq!((qualified(text), collation(text)), (None, None), "{text}");
        }
    }
}
