//! Where in a dump a line is: among the rows of a `COPY`, in an `INSERT`, or elsewhere.

use super::names::{cut_outside, split_outside, unquote};

/// A line that may hold values.
pub struct Row<'a> {
    /// The table that it is of, as SQL writes it.
    pub table: Option<&'a str>,
    /// The columns of its fields; none for an `INSERT` that does not name them.
    pub columns: &'a [String],
    pub text: &'a [u8],
    pub form: Form,
}

/// How a line is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A row in the text format of `COPY`.
    Copy,
    /// A part of an `INSERT`.
    Insert,
    #[default]
    Other,
}

/// What the lines before have said.
#[derive(Default)]
pub struct Place {
    table: Option<String>,
    columns: Vec<String>,
    form: Form,
}

impl Place {
    /// Takes the next line. `None` if it only says where the next ones are.
    pub fn advance<'a>(&'a mut self, line: &'a [u8]) -> Option<Row<'a>> {
        if self.form == Form::Copy {
            if line == b"\\." || line == b"\\.\r" {
                *self = Self::default();
                return None;
            }
        } else if let Some(copy) =
            text_after(line, b"COPY ").and_then(|text| text.strip_suffix(" FROM stdin;"))
        {
            self.begin(copy.strip_suffix(')').unwrap_or(copy), Form::Copy);
            return None;
        } else if let Some(insert) = text_after(line, b"INSERT INTO ") {
            let head = cut_outside(insert, " VALUES", '"').map_or(insert, |(head, _)| head);
            let head = cut_outside(head, " OVERRIDING", '"').map_or(head, |(head, _)| head);
            let head = head.to_owned();
            self.begin(head.strip_suffix(')').unwrap_or(&head), Form::Insert);
        } else if line.starts_with(b"--") {
            *self = Self::default();
        }
        Some(Row { table: self.table.as_deref(), columns: &self.columns, text: line, form: self.form })
    }

    /// `schema.table (column, column`
    fn begin(&mut self, head: &str, form: Form) {
        let (table, columns) = cut_outside(head, " (", '"').unwrap_or((head, ""));
        self.table = Some(table.to_owned());
        self.columns = match columns {
            "" => Vec::new(),
            _ => split_outside(columns, ", ", '"').into_iter().map(unquote).collect(),
        };
        self.form = form;
    }
}

/// Names that are not UTF-8, as in dumps of other encodings, are not known.
fn text_after<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a str> {
    let rest = line.strip_prefix(start)?;
    let head = rest.utf8_chunks().next()?.valid();
    Some(head.strip_suffix('\r').unwrap_or(head))
}
