//! `man` and `completions`: what `make install-cli` installs, made from the commands themselves.

use crate::args;
use crate::error::{Error, Result};
use crate::output::print;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

/// Write the man pages into a directory
#[derive(Args)]
pub struct Man {
    /// The directory, which has to be there
    directory: PathBuf,
}

/// Print the completions of a shell
#[derive(Args)]
pub struct Completions {
    shell: Shell,
}

impl Man {
    /// # Errors
    /// [`Error::File`].
    pub fn run(self) -> Result<()> {
        clap_mangen::generate_to(args::Args::command(), &self.directory)
            .map_err(|error| Error::file("write", &self.directory, error))
    }
}

impl Completions {
    /// # Errors
    /// [`Error::Output`].
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::Args::command(), "prism-crypt", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
