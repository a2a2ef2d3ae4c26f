//! `inspect`: what a value, an encrypted file or a dump is, without a key.

mod dump;
mod file;
mod pg_restore;
mod value;

use crate::error::{Error, Result};
use crate::input::Input;
use crate::output::{print, print_json};
use clap::Args;
use dump::Dump;
use file::File;
use prism_envelope::armor::is_armored;
use prism_envelope::file::MAGIC;
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use value::Value;

/// What pg_dump's custom form begins with.
const CUSTOM_DUMP: &[u8] = b"PGDMP";
/// The name of the first file in pg_dump's tar form.
const TAR_DUMP: &[u8] = b"toc.dat\0";
/// The longest text that may be one value alone, in bytes: as long as a value of PostgreSQL.
const MAX_VALUE: u64 = 1 << 30;

const EXAMPLES: &str = "\
Examples:
  prism-crypt inspect clients.penc
  prism-crypt inspect clinic.dump --json
  pg_dump clinic | prism-crypt inspect -
  prism-crypt inspect prism:v1:AQAAAAAAA…

Of a dump, it tells how many values of which key version are in which column, and which master keys
open the data keys that travel with it. Dumps in custom, directory or tar form are read with
pg_restore.";

/// Tell what is in an encrypted value, a file or a dump; no key is needed
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// A PENC file, a dump, a file with a value, - for standard input, or a value itself (prism:v1:…)
    #[arg(value_name = "FILE")]
    what: PathBuf,
    /// Print an object
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Found {
    Value(Value),
    File(File),
    Dump(Dump),
}

impl Inspect {
    /// # Errors
    /// [`Error::TextForm`], [`Error::Penc`], [`Error::PgRestore`], [`Error::NothingFound`], [`Error::File`], [`Error::Output`].
    pub fn run(self) -> Result<()> {
        let found = self.find()?;
        if self.json {
            return print_json(&found);
        }
        print(&match found {
            Found::Value(value) => value.to_string(),
            Found::File(file) => file.to_string(),
            Found::Dump(dump) => dump.to_string(),
        })
    }

    fn find(&self) -> Result<Found> {
        let text = self.what.to_string_lossy();
        if is_armored(text.as_bytes()) && !self.what.exists() {
            return Ok(Found::Value(Value::of(text.trim().as_bytes())?));
        }
        if self.what.is_dir() {
            return pg_restore::read_path(&self.what, dump_of);
        }
        let input = Input::open(&self.what)?;
        let mut content = BufReader::with_capacity(1 << 18, input.read("reading")?);
        let start = beginning(&mut content)?;
        if start.starts_with(&MAGIC) {
            return Ok(Found::File(File::read(content)?));
        }
        if start.starts_with(CUSTOM_DUMP) || start.starts_with(TAR_DUMP) {
            return match input.is_regular() {
                true => pg_restore::read_path(&self.what, dump_of),
                false => pg_restore::read_stream(content, dump_of),
            };
        }
        // No text: it may have no lines that end.
        if start.contains(&0) {
            return Err(Error::NothingFound);
        }
        if is_armored(&start) { value_or_dump(content, &self.what) } else { dump_of(&mut content) }
    }
}

/// As much as is there at once, at least as much as tells what it is, if there is so much.
fn beginning(content: &mut BufReader<Box<dyn Read + Send>>) -> Result<Vec<u8>> {
    // A pipe may give a few bytes only. What is longer is not needed: a text form is known by "prism:v1:".
    let mut start = Vec::new();
    content.by_ref().take(32).read_to_end(&mut start).map_err(Error::Input)?;
    let rest = std::mem::replace(content, BufReader::new(Box::new(io::empty())));
    *content = BufReader::with_capacity(1 << 18, Box::new(io::Cursor::new(start.clone()).chain(rest)));
    Ok(start)
}

/// One value and nothing else, or several lines of them.
fn value_or_dump(mut content: BufReader<Box<dyn Read + Send>>, path: &Path) -> Result<Found> {
    let failed = |error| Error::file("read", path, error);
    let mut line = Vec::new();
    content.by_ref().take(MAX_VALUE).read_until(b'\n', &mut line).map_err(failed)?;
    let mut rest = io::Cursor::new(&line[..]).chain(content);
    let is_alone = {
        let (_, after) = rest.get_mut();
        after.fill_buf().map_err(failed)?.is_empty()
    };
    if is_alone { Ok(Found::Value(Value::of(line.trim_ascii())?)) } else { dump_of(&mut rest) }
}

fn dump_of(content: &mut dyn BufRead) -> Result<Found> {
    let dump = Dump::read(content)?;
    if dump.is_empty() { Err(Error::NothingFound) } else { Ok(Found::Dump(dump)) }
}
