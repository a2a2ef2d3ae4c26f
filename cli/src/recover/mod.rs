//! `recover`: a dump whose encrypted values are opened, for a server without the extension.
//!
//! 1. `source` gives the dump as SQL, twice; `script` takes it apart into statements, lines between them and rows of COPY, in UTF-8
//!    (`encoding`). `crate::sql` gives the tokens of a statement, from the lexer of the extension, and `follow` what comes behind it.
//! 2. The first reading, `survey`, makes a `catalog` of each database, with its data keys (`keyring`).
//! 3. The second one, `rewrite`, opens what is in rows of COPY and of INSERT (`insert`) by `values`, which looks into values that are made
//!    of others (`nested`) and into bytes (`bytea`).
//! 4. `definition` says what becomes of other statements, `expression` what stands for what in them, and `signature` which functions are
//!    the same then.
//! 5. `report` tells what was done.

#[cfg(test)]
mod any_dump;
mod bytea;
mod catalog;
mod definition;
mod encoding;
mod expression;
mod follow;
mod insert;
mod keyring;
mod nested;
mod report;
mod rewrite;
mod script;
mod signature;
mod source;
mod survey;
mod values;

use crate::error::{Error, Result};
use crate::keys::KeyArgs;
use crate::new_file::NewFile;
use crate::output::{flush, stdout};
use clap::Args;
use rewrite::Rewrite;
use source::Source;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use survey::{add_keys, check_keys, no_dump, survey};

const EXAMPLES: &str = "\
Examples:
  prism-crypt recover clinic.sql --key-file master.key --output plaintext.sql
  prism-crypt recover clinic.dump --key-file master.key | psql -v ON_ERROR_STOP=1 -d clinic
  prism-crypt recover patients.sql --keys data_key.csv --key-file master.key > plaintext.sql
  zcat clinic.sql.gz | prism-crypt recover - --key-file master.key --output plaintext.sql

The dump may be in any form of pg_dump; forms other than plain are read with the pg_restore on PATH.
A dump of the whole database has the data keys in it. For a dump of some tables, --keys takes what
COPY prism_crypt.data_key TO STDOUT (FORMAT csv, HEADER) writes.

The new dump holds plaintext, and no right to decrypt protects it any more: whoever may read a
table of it reads everything. A value that can't be opened is told of with its table, column and
row, stays as it is, and makes the exit status 1. So does a dump that ends too early; what was there
is in the new one.";

/// Decrypt a dump, for a server that does not have the extension
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Recover {
    /// The dump, or - for standard input
    dump: PathBuf,
    /// The key table as CSV with a header, for a dump that does not have it
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A new file for the result, with mode 0600 [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Stop at the first value that can't be opened, or if the dump is not complete
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    master_keys: KeyArgs,
}

impl Recover {
    /// Runs it.
    ///
    /// # Errors
    /// Those of the dump, the keys and the output; [`Error::Dump`] if some values were not opened.
    pub fn run(self) -> Result<()> {
        let is_standard = self.dump.as_os_str() == "-";
        let master_keys = self.master_keys.load_beside(is_standard, "dump")?.master_keys();
        let source = Source::open(&self.dump)?;
        let (mut catalogs, is_dump) = survey(&source)?;
        if !is_dump {
            return Err(no_dump());
        }
        if let Some(path) = &self.keys {
            add_keys(path, &mut catalogs)?;
        }
        check_keys(&mut catalogs, &master_keys)?;
        let mut rewrite = |out: &mut dyn Write| {
            Rewrite::run(&source, std::mem::take(&mut catalogs), &master_keys, out, self.strict)
        };
        let report = match &self.output {
            Some(path) => to_file(path, &mut rewrite)?,
            None => {
                let mut out = stdout();
                let report = rewrite(&mut out)?;
                flush(&mut out)?;
                report
            }
        };
        report.summary();
        let (message, detail) = match (report.is_complete, report.not_opened) {
            (true, 0) => return Ok(()),
            (true, count) => {
                (format!("{count} values were not opened"), "They are in the new dump as they were.")
            }
            (false, _) => {
                ("the dump is not complete".to_owned(), "What follows in it is not in the new one.")
            }
        };
        Err(Error::Dump { message, detail: Some(detail.to_owned()), hint: None })
    }
}

fn to_file<T>(path: &Path, write: &mut dyn FnMut(&mut dyn Write) -> Result<T>) -> Result<T> {
    let failed = |error| match error {
        Error::Output(error) => Error::file("write", path, error),
        other => other,
    };
    let mut out = BufWriter::with_capacity(1 << 16, NewFile::create(path, false)?);
    let result = write(&mut out).map_err(failed)?;
    let file = out.into_inner().map_err(|error| failed(Error::Output(error.into_error())))?;
    file.publish()?;
    Ok(result)
}
