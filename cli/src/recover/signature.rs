//! Functions by name and argument types: two of them, one for `encrypted_text` and one for text, become the same.

use crate::sql::{QualifiedName, Sql};

/// A function or procedure, as PostgreSQL tells them apart.
pub type Signature = (QualifiedName, Vec<String>);

/// First words of types that have several, and the words behind them.
const SEVERAL_WORDS: [&str; 6] = ["double", "character", "bit", "timestamp", "time", "national"];
const SECOND_WORDS: [&str; 6] = ["precision", "varying", "with", "without", "char", "character"];

/// The one that a statement makes; `None` if it makes none.
pub fn signature(sql: &Sql<'_>) -> Option<Signature> {
    let at = sql.is(0, "create").then(|| sql.skip(1, &["or", "replace"]))?;
    sql.is_one_of(at, &["function", "procedure"]).then_some(())?;
    let (name, open) = sql.qualified(at + 1)?;
    let close = sql.is_byte(open, b'(').then(|| sql.closing(open)).flatten()?;
    let mut types = Vec::new();
    for (from, to) in sql.parts(open, close) {
        if sql.is(from, "out") {
            continue;
        }
        let from = sql.skip(from, &["in", "inout", "variadic"]);
        let to = (from..to).find(|at| sql.is(*at, "default") || sql.is_byte(*at, b'=')).unwrap_or(to);
        let has_name = sql.name(from + 1).is_some() && from + 1 < to;
        let is_type = sql.is_one_of(from, &SEVERAL_WORDS) && sql.is_one_of(from + 1, &SECOND_WORDS);
        let from = if has_name && !is_type { from + 1 } else { from };
        let words = (from..to)
            .map(|at| String::from_utf8_lossy(&sql.name(at).unwrap_or(sql.bytes(at).to_vec())).into_owned());
        types.push(words.collect::<Vec<_>>().join(" "));
    }
    Some((name, types))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Dialect;

    #[test]
    fn arguments() {
        for (arguments, expected) in [
            ("", &[][..]),
            ("text", &["text"]),
            ("a text, OUT b int, INOUT c \"text\"", &["text", "text"]),
            ("a text DEFAULT 'x,y'::text, VARIADIC b public.pair[]", &["text", "public . pair [ ]"]),
            (
                "double precision, x timestamp without time zone",
                &["double precision", "timestamp without time zone"],
            ),
            ("name text, \"double\" double precision", &["text", "double precision"]),
        ] {
            let text = format!("CREATE FUNCTION s.f({arguments}) RETURNS text");
            let found = signature(&Sql::new(text.as_bytes(), Dialect::default()));
            assert_eq!(
                found.map(|(_, types)| types),
                Some(expected.iter().map(|name| (*name).to_owned()).collect()),
                "{arguments}"
            );
        }
    }
}
