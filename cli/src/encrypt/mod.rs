//! `encrypt`: CSV into an encrypted file that `prism_crypt.import_encrypted()` takes.

mod content;

use crate::copy_text::push_field;
use crate::csv::Reader;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::keys::KeyArgs;
use crate::new_file::NewFile;
use crate::output::print;
use crate::sql::quote_identifier;
use crate::table::{Column, Definition};
use clap::{Args, ValueEnum};
use content::Content;
use prism_envelope::file::Compression;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const EXAMPLES: &str = "\
Examples:
  prism-crypt generate-key --output clients.key
  prism-crypt encrypt clients.csv --output clients.penc --key-file clients.key \\
    --type id=int --type 'balance=numeric(10,2)' --type name=public.encrypted_text
  and on the server:
    SELECT prism_crypt.import_encrypted('/srv/clients.penc', key => …);

The first line of the CSV names the columns. An empty field is null, \"\" an empty text, as for
COPY. Types are written as SQL writes them, with their schema if it is not pg_catalog; the
import makes the table, and encrypts columns of type encrypted_text with the server's keys. The
CSV stays where it is: see to it yourself.";

/// Encrypt CSV into a file (PENC) that prism_crypt.import_encrypted() takes
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Encrypt {
    /// The CSV in UTF-8, or - for standard input
    file: PathBuf,
    /// The new file, which only you can read (0600); an existing one is an error
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Type of a column; it is text otherwise
    #[arg(long = "type", value_name = "COLUMN=TYPE")]
    types: Vec<String>,
    /// The table's name, as SQL writes it [default: the name of the CSV]
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// The key is a master key: make a key for this file, and wrap it
    #[arg(long)]
    wrap: bool,
    /// Version of the format; 1 has at most 1 GiB, which are held in memory
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2), default_value_t = 2)]
    format: u8,
    /// Compress before encrypting: the file's length then tells something of what is in it
    #[arg(long, value_enum, default_value_t = CompressionName::None)]
    compression: CompressionName,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionName {
    None,
    Zstd,
}

impl Encrypt {
    /// # Errors
    /// [`Error::Csv`], [`Error::Usage`], [`Error::PlainFormat`], [`Error::FileExists`], [`Error::File`], [`Error::Penc`], those of
    /// [`KeyArgs::load`].
    pub fn run(self) -> Result<()> {
        if self.format == 1 && (self.wrap || self.compression != CompressionName::None) {
            return Err(Error::PlainFormat);
        }
        let compression = match self.compression {
            CompressionName::None => Compression::None,
            CompressionName::Zstd => Compression::Zstd,
        };
        let input = Input::open(&self.file)?;
        let keys = self.keys.load_beside(input.is_standard(), "CSV")?;
        let file = NewFile::create(&self.output, false)?;
        let mut csv = Reader::new(BufReader::with_capacity(1 << 16, input.read("encrypting")?));
        let definition = self.definition(&mut csv)?;
        let mut content = Content::begin(file, &keys, self.wrap, self.format, compression)?;
        content.write_all(&definition.to_line()?).map_err(Error::content)?;
        let rows = write_rows(&mut csv, definition.columns.len(), &mut content)?;
        let size = content.finish()?.publish()?;
        print(&format!("{}: {rows} rows, {size} bytes\n", self.output.display()))
    }

    fn definition<R: BufRead>(&self, csv: &mut Reader<R>) -> Result<Definition> {
        let mut columns: Vec<Column> = Vec::new();
        let bad = |detail: &str| Error::Csv { line: 1, detail: detail.to_owned() };
        csv.read_record(|name| {
            let name = std::str::from_utf8(name.unwrap_or_default()).map_err(|_| bad("It is not UTF-8."))?;
            if name.is_empty() || name.contains('\0') {
                return Err(bad("A column has no name."));
            }
            if columns.iter().any(|column| column.name == name) {
                return Err(bad(&format!("There are two columns \"{name}\".")));
            }
            columns.push(Column::of_type(name, "text"));
            Ok(())
        })?;
        if columns.is_empty() {
            return Err(bad("There is no line that names the columns."));
        }
        for named in &self.types {
            let (name, sql_type) =
                named.split_once('=').ok_or_else(|| Error::Usage(format!("--type {named} has no =")))?;
            let column = columns.iter_mut().find(|column| column.name == name);
            column.ok_or_else(|| Error::Usage(format!("the CSV has no column \"{name}\"")))?.sql_type =
                sql_type.to_owned();
        }
        Ok(Definition { collection: self.table.clone().unwrap_or_else(|| table_name(&self.file)), columns })
    }
}

/// The name of the CSV without its ending.
fn table_name(file: &Path) -> String {
    match file.file_stem().map(|stem| stem.to_string_lossy()) {
        Some(stem) if stem != "-" => quote_identifier(&stem),
        _ => "imported".to_owned(),
    }
}

fn write_rows<R: BufRead>(csv: &mut Reader<R>, width: usize, out: &mut impl Write) -> Result<u64> {
    let mut row = Zeroizing::new(Vec::new());
    let mut rows = 0;
    loop {
        row.clear();
        let line = csv.line();
        let bad = |detail: String| Error::Csv { line, detail };
        let mut fields = 0;
        let mut is_empty_line = false;
        let more = csv.read_record(|field| {
            if field.is_some_and(|field| field.contains(&0) || std::str::from_utf8(field).is_err()) {
                return Err(bad("It is not UTF-8, or has a zero byte.".to_owned()));
            }
            push_field(&mut row, fields == 0, field);
            fields += 1;
            is_empty_line = field.is_none();
            Ok(())
        })?;
        if !more {
            return Ok(rows);
        }
        // An empty line is a row of a table with one column only.
        if fields == 1 && is_empty_line && width > 1 {
            continue;
        }
        if fields != width {
            return Err(bad(format!("It has {fields} fields, and there are {width} columns.")));
        }
        row.push(b'\n');
        out.write_all(&row).map_err(Error::content)?;
        rows += 1;
    }
}
