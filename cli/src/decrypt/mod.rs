//! `decrypt`: what is in an encrypted file, to standard output.

mod expression;
mod name;
mod sql;

use crate::copy_text::{decode, fields};
use crate::csv::push_field;
use crate::error::{Error, Result};
use crate::input::{Input, WRITING};
use crate::keys::KeyArgs;
use crate::output::{flush, stdout, write};
use crate::penc;
use crate::table::Table;
use crate::verify::verify;
use clap::{Args, ValueEnum};
use std::io::{Read, Write};
use std::path::PathBuf;
use zeroize::Zeroizing;

const EXAMPLES: &str = "\
Examples:
  prism-crypt decrypt clients.penc --key-file master.key > clients.csv
  prism-crypt decrypt clients.penc --format sql --key-file master.key | psql -1 -d archive
  curl -s https://example.org/clients.penc | prism-crypt decrypt - --key-env CLIENTS_KEY | wc -l

A file is read twice: nothing is written before all of it has proved to be complete and
unchanged. Standard input can be read once only: every byte written is authentic, but that
nothing is missing is known at the end. So if the exit status is 1, don't use what was written
before.";

/// Decrypt an encrypted file (PENC) to standard output
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Decrypt {
    /// The file, or - for standard input
    file: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// With --format sql: the table's name, as SQL writes it [default: the one that was exported]
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// With --format sql: keep the types of encrypted columns, for a database with the extension; otherwise they are text
    #[arg(long)]
    keep_types: bool,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table as CSV with a header; null is an empty field, an empty text is ""
    Csv,
    /// A table as CREATE TABLE and COPY, for psql
    Sql,
    /// The content as it is, whatever it is
    Raw,
}

impl Decrypt {
    /// # Errors
    /// Those of [`penc::open`], [`Error::FileContent`], [`Error::Row`], [`Error::File`], [`Error::Output`].
    pub fn run(self) -> Result<()> {
        if self.format != Format::Sql && (self.keep_types || self.table.is_some()) {
            return Err(Error::Usage("--table and --keep-types are for --format sql".to_owned()));
        }
        let input = Input::open(&self.file)?;
        let keys = self.keys.load_beside(input.is_standard(), "file")?;
        if input.is_regular() {
            verify(&input, &keys)?;
        }
        let (header, content) = penc::open(input.read(WRITING)?, &keys)?;
        if self.format == Format::Raw {
            return copy(content);
        }
        if let Some(header) = header.filter(|header| header.content_type != penc::TABLE) {
            return Err(Error::FileContent(header.content_type.chars().take(100).collect()));
        }
        let table = Table::of(content)?;
        match self.format {
            Format::Sql => sql::write_table(table, self.table.as_deref(), self.keep_types, &mut stdout()),
            _ => write_csv(table, &mut stdout()),
        }
    }
}

fn copy(mut content: Box<dyn Read>) -> Result<()> {
    let mut out = stdout();
    let mut buffer = Zeroizing::new(vec![0; 1 << 16]);
    loop {
        let read = content.read(&mut buffer).map_err(Error::content)?;
        if read == 0 {
            return flush(&mut out);
        }
        write(&mut out, buffer.get(..read).unwrap_or_default())?;
    }
}

fn write_csv(mut table: Table, out: &mut impl Write) -> Result<()> {
    let mut line = Zeroizing::new(Vec::new());
    for (number, column) in table.definition.fields().enumerate() {
        push_field(&mut line, number == 0, Some(column.name.as_bytes()));
    }
    line.push(b'\n');
    write(out, &line)?;
    while let Some(row) = table.next_row()? {
        line.clear();
        for (number, field) in fields(row).enumerate() {
            push_field(&mut line, number == 0, decode(field).as_deref());
        }
        line.push(b'\n');
        write(out, &line)?;
    }
    flush(out)
}
