//! `backup-key` and `restore-key`: a key as words that a person can write down and type.

mod words;

use crate::error::{Error, Result};
use crate::generate_key::write_key;
use crate::keys::KeyArgs;
use crate::output::print;
use clap::Args;
use prism_envelope::MasterKey;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Words in a row of the sheet.
const ROW: usize = 4;
/// More than words and headings of a sheet ever are, in bytes.
const MAX_INPUT: u64 = 16 << 10;

const BACKUP: &str = "\
Example:
  prism-crypt backup-key --key-file /etc/prism_crypt/master.key | lpr

The words are those of BIP-39 (English): 256 bits of the key and 8 check bits. Whoever has them
has the key: print on a printer that keeps nothing, and lock the paper up, apart from the
backups of the data. Compare the fingerprint with master_fingerprint of prism_crypt.key_status,
and try the paper with 'prism-crypt restore-key'.";

const RESTORE: &str = "\
Examples:
  prism-crypt restore-key --output master.key        (type the words, in any number of lines)
  prism-crypt backup-key --key-file master.key | prism-crypt restore-key | cmp - master.key

The first four letters of a word are enough. Numbers, and lines that begin with #, are skipped,
so a sheet can be read as it is. What is typed is shown.";

/// Print a master key as 24 words for paper
#[derive(Args)]
#[command(after_help = BACKUP)]
pub struct BackupKey {
    #[command(flatten)]
    keys: KeyArgs,
}

/// Make the key again from its 24 words
#[derive(Args)]
#[command(after_help = RESTORE)]
pub struct RestoreKey {
    /// Write the key to a new file that only you can read (0600), and print its fingerprint
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl BackupKey {
    /// # Errors
    /// Those of [`KeyArgs::load`], [`Error::Output`].
    pub fn run(self) -> Result<()> {
        for key in self.keys.load()?.iter() {
            let fingerprint = MasterKey::new(key).fingerprint();
            let mut sheet = Zeroizing::new(format!(
                "# prism_crypt master key, fingerprint {fingerprint}\n\
                 # 24 words of BIP-39 (English). To make the key again: prism-crypt restore-key\n"
            ));
            // Enough for all rows, so that it does not grow and leave words behind.
            sheet.reserve(1 << 10);
            for (number, word) in words::of_key(key)?.words().enumerate() {
                sheet.push_str(&format!("{:>2}. {word:<10}", number + 1));
                sheet.push_str(if (number + 1).is_multiple_of(ROW) { "\n" } else { " " });
            }
            print(&sheet)?;
        }
        Ok(())
    }
}

impl RestoreKey {
    /// # Errors
    /// [`Error::WordCount`], [`Error::UnknownWords`], [`Error::WordChecksum`], [`Error::Input`], [`Error::FileExists`], [`Error::File`],
    /// [`Error::Output`].
    pub fn run(self) -> Result<()> {
        let key = words::to_key(&read_words()?)?;
        let fingerprint = MasterKey::new(&key).fingerprint();
        if let Some(path) = &self.output {
            write_key(path, &key)?;
            return print(&format!("fingerprint: {fingerprint}\n"));
        }
        print(&Zeroizing::new(format!("{}\n", *key.to_hex())))
    }
}

/// All of standard input; of a terminal, until there are enough words.
fn read_words() -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_INPUT as usize));
    if !io::stdin().is_terminal() {
        io::stdin().lock().take(MAX_INPUT).read_to_string(&mut text).map_err(Error::Input)?;
        return Ok(text);
    }
    while words::listed(&text).count() < words::COUNT && (text.len() as u64) < MAX_INPUT {
        let next = words::listed(&text).count() + 1;
        // Where it can't be shown, the words can still be typed.
        let _ = write!(io::stderr(), "Words from number {next} on: ");
        if io::stdin().read_line(&mut text).map_err(Error::Input)? == 0 {
            break;
        }
    }
    Ok(text)
}
