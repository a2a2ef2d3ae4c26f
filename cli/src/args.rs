//! The commands and what they share.

use crate::error::Result;
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
pub enum Command {}

impl Command {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {}
    }
}
