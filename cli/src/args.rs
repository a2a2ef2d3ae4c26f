//! The commands and what they share.

use crate::check::CheckEncryption;
use crate::decrypt::Decrypt;
use crate::encrypt::Encrypt;
use crate::error::Result;
use crate::generate_key::GenerateKey;
use crate::generated::{Completions, Man};
use crate::inspect::Inspect;
use crate::paper::{BackupKey, RestoreKey};
use crate::recover::Recover;
use crate::verify::Verify;
use clap::{Parser, Subcommand};

/// Keys, encrypted files and dumps of prism_crypt, without a server that has the extension
#[derive(Parser)]
#[command(name = "prism-crypt", version, max_term_width = 100, after_long_help = EXIT_STATUS)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  what was asked is done
  1  it failed: wrong key, corrupted data, something not encrypted, …
  2  the command could not be understood";

#[derive(Subcommand)]
pub enum Command {
    GenerateKey(GenerateKey),
    BackupKey(BackupKey),
    RestoreKey(RestoreKey),
    Inspect(Inspect),
    Verify(Verify),
    Decrypt(Decrypt),
    Encrypt(Encrypt),
    CheckEncryption(CheckEncryption),
    Recover(Recover),
    #[command(hide = true)]
    Man(Man),
    #[command(hide = true)]
    Completions(Completions),
}

impl Command {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::GenerateKey(command) => command.run(),
            Self::BackupKey(command) => command.run(),
            Self::RestoreKey(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Decrypt(command) => command.run(),
            Self::CheckEncryption(command) => command.run(),
            Self::Encrypt(command) => command.run(),
            Self::Recover(command) => command.run(),
            Self::Man(command) => command.run(),
            Self::Completions(command) => command.run(),
        }
    }
}
