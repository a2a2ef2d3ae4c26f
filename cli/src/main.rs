//! `prism-crypt`, the command-line tool of prism_crypt: keys, encrypted files and dumps, without a server that has the extension.
//!
//! `args` names the commands; each is a module of its own, with its arguments and a `run()`. `keys` is where keys come from, `error` the
//! one error type.
#![forbid(unsafe_code)]

mod args;
mod check;
mod copy_text;
mod csv;
mod decrypt;
mod encrypt;
mod error;
mod generate_key;
mod generated;
mod input;
mod inspect;
mod keys;
#[path = "../../src/hygiene/lexer.rs"]
#[allow(dead_code, reason = "it is that of the extension, which also reads messages and JSON")]
mod lexer;
#[path = "../../src/files/new_file.rs"]
mod new_file;
mod output;
mod paper;
mod penc;
mod recover;
mod sql;
mod table;
mod verify;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Ends with 2 when it can't be understood.
    let args = args::Args::parse();
    match args.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report();
            ExitCode::from(error.exit_status())
        }
    }
}
