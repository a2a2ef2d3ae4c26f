//! `verify`: whether all of an encrypted file opens.

use crate::error::{Error, Result};
use crate::input::Input;
use crate::keys::{KeyArgs, Keys};
use crate::output::print;
use crate::penc;
use crate::table::{Recognized, Table};
use clap::Args;
use std::cell::Cell;
use std::io::{self, Read};
use std::path::PathBuf;
use std::rc::Rc;

const EXAMPLES: &str = "\
Examples:
  prism-crypt verify clients.penc --key-file /etc/prism_crypt/master.key
  aws s3 cp s3://cold/clients.penc - | prism-crypt verify - --key-env CLIENTS_KEY

It writes nothing anywhere. A table is also looked through for rows that are malformed.";

/// Open an encrypted file to its end, and say how much is in it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The file, or - for standard input
    file: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

/// What is in a file that opens.
pub struct Content {
    /// Of a table.
    pub rows: Option<u64>,
    /// As it was before it was compressed and encrypted.
    pub bytes: u64,
}

impl Verify {
    /// # Errors
    /// Those of [`penc::open`], [`Error::Row`], [`Error::File`], [`Error::Output`].
    pub fn run(self) -> Result<()> {
        let input = Input::open(&self.file)?;
        let keys = self.keys.load_beside(input.is_standard(), "file")?;
        let content = verify(&input, &keys)?;
        let rows = content.rows.map(|rows| format!("{rows} rows, ")).unwrap_or_default();
        print(&format!("complete and unchanged: {rows}{} bytes\n", content.bytes))
    }
}

/// Reads all of it.
///
/// # Errors
/// Those of [`penc::open`], [`Error::Row`], [`Error::File`].
pub fn verify(input: &Input, keys: &Keys) -> Result<Content> {
    let (header, content) = penc::open(input.read("verifying")?, keys)?;
    let counted = Counted { inner: content, bytes: Rc::default() };
    let bytes = Rc::clone(&counted.bytes);
    let rows = match header.map(|header| header.content_type == penc::TABLE) {
        Some(true) => Some(count(Table::of(Box::new(counted))?)?),
        Some(false) => drain(counted)?,
        // A file of version 1 does not say what it holds.
        None => match Table::recognize(Box::new(counted))? {
            Recognized::Table(table) => Some(count(table)?),
            Recognized::Other(rest) => drain(rest)?,
        },
    };
    Ok(Content { rows, bytes: bytes.get() })
}

fn count(mut table: Table) -> Result<u64> {
    while table.next_row()?.is_some() {}
    Ok(table.rows)
}

fn drain(mut content: impl Read) -> Result<Option<u64>> {
    io::copy(&mut content, &mut io::sink()).map_err(Error::content)?;
    Ok(None)
}

struct Counted {
    inner: Box<dyn Read>,
    bytes: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}
