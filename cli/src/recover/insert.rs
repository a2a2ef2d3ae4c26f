//! INSERT statements as `pg_dump` writes them.

use crate::sql::{Name, QualifiedName, Sql};

/// An INSERT of constants.
pub struct Insert {
    /// The table.
    pub table: QualifiedName,
    /// The tokens of its name: from, and up to.
    pub name_tokens: (usize, usize),
    /// The columns, if it names them.
    pub columns: Vec<Name>,
    /// For each row, for each value the tokens from, and up to.
    pub rows: Vec<Vec<(usize, usize)>>,
}

impl Insert {
    /// Reads one; `None` if it is another statement.
    pub fn read(sql: &Sql<'_>) -> Option<Self> {
        sql.are(0, &["insert", "into"]).then_some(())?;
        let (table, mut at) = sql.qualified(2)?;
        let name_tokens = (2, at);
        let mut columns = Vec::new();
        if sql.is_byte(at, b'(') {
            let close = sql.closing(at)?;
            columns = sql.parts(at, close).into_iter().filter_map(|(from, _)| sql.name(from)).collect();
            at = close + 1;
        }
        at = sql.skip(at, &["overriding", "system", "user", "value"]);
        sql.is(at, "values").then_some(())?;
        let mut rows = Vec::new();
        while sql.is_byte(at + 1, b'(') {
            let close = sql.closing(at + 1)?;
            rows.push(sql.parts(at + 1, close));
            at = close + 1;
            if !sql.is_byte(at, b',') {
                break;
            }
        }
        Some(Self { table, name_tokens, columns, rows })
    }

    /// The text of a value; `None` for NULL, DEFAULT and others that are not one token.
    pub fn text(&self, sql: &Sql<'_>, (from, to): (usize, usize)) -> Option<Vec<u8>> {
        if to != from + 1 || sql.is_one_of(from, &["null", "default"]) {
            return None;
        }
        sql.literal(from).or_else(|| Some(sql.bytes(from).to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Dialect;

    #[test]
    fn rows_and_columns() {
        let text = b"INSERT INTO \"S\".t (a, \"B\") OVERRIDING SYSTEM VALUE VALUES\n\t(1, '(x,y)'),\n\t(-2.5, NULL);";
        let sql = Sql::new(text, Dialect::default());
        let insert = Insert::read(&sql);
        assert_eq!(insert.as_ref().map(|insert| insert.table.to_string()), Some("S.t".to_owned()));
        let texts = insert.map(|insert| {
            assert_eq!(insert.columns, [b"a".to_vec(), b"B".to_vec()]);
            insert.rows.iter().flatten().map(|value| insert.text(&sql, *value)).collect::<Vec<_>>()
        });
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(texts, Some(vec![some("1"), some("(x,y)"), None, None]));
    }
}
