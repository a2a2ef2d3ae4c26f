//! What a statement says of the text that follows it.

use crate::sql::{Name, QualifiedName, Sql};

/// What follows.
pub enum Follow {
    /// Another statement.
    Statement,
    /// Text in another encoding.
    Encoding(String),
    /// Strings in which a backslash is an escape, or is not.
    Backslashes(bool),
    /// Rows of COPY.
    Rows(Rows),
}

/// Rows of COPY.
pub struct Rows {
    /// Whose rows they are.
    pub table: QualifiedName,
    /// The tokens of its name: from, and up to.
    pub name_tokens: (usize, usize),
    /// The columns in the order of the fields.
    pub columns: Vec<Name>,
}

/// Looks at a statement.
pub fn follow(sql: &Sql<'_>) -> Follow {
    if sql.is(0, "copy") {
        return rows(sql).map_or(Follow::Statement, Follow::Rows);
    }
    if sql.are(0, &["set", "client_encoding"]) {
        let name = sql.literal(3).map(|name| String::from_utf8_lossy(&name).into_owned());
        return name.map_or(Follow::Statement, Follow::Encoding);
    }
    if sql.are(0, &["set", "standard_conforming_strings"]) {
        return Follow::Backslashes(sql.is(3, "off"));
    }
    Follow::Statement
}

/// Whether a line leads to another database, as in the dumps of `pg_dumpall`.
pub fn is_connect(line: &[u8]) -> bool {
    line.starts_with(b"\\connect")
}

fn rows(sql: &Sql<'_>) -> Option<Rows> {
    let (table, mut at) = sql.qualified(1)?;
    let name_tokens = (1, at);
    let mut columns = Vec::new();
    if sql.is_byte(at, b'(') {
        let close = sql.closing(at)?;
        columns = sql.parts(at, close).into_iter().filter_map(|(from, _)| sql.name(from)).collect();
        at = close + 1;
    }
    sql.are(at, &["from", "stdin"]).then_some(Rows { table, name_tokens, columns })
}
