//! `check-encryption`: asks a server what of a database is encrypted.
//!
//! `connection` connects as libpq would, with `pass_file` and `tls`; `survey` asks, with the rights that the role has; `report` is what came of
//! it.

mod connection;
mod pass_file;
mod report;
mod survey;
mod tls;

use crate::error::{Error, Result};
use crate::output::{print, print_json};
use clap::{ArgAction, Args};
use connection::ConnectionArgs;
use report::Status;

const EXAMPLES: &str = "\
Examples:
  prism-crypt check-encryption -h db.example.org -U auditor -d clinic
  PGDATABASE=clinic prism-crypt check-encryption --json

It connects as psql does: with -h, -p, -U and -d, or PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD,
PGPASSFILE or ~/.pgpass, PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY, PGCONNECT_TIMEOUT,
PGOPTIONS and PGCHANNELBINDING. PGSERVICE and others that are not known here are refused. It only
reads.

A role with access 'monitor' (and SELECT on the tables, for what is not encrypted) sees everything.
For others, encrypted columns that they may SELECT are counted, and the rest is named as not seen.

Exit status 1: something that is declared to be encrypted is not (a migration that is not finished,
plaintext that was kept, plaintext among encrypted values, damaged values), or the extension is not
there; or that nothing unencrypted was found, but this role could not look at everything (unknown).
With --strict also: columns that look like personal data and are not encrypted, and anything that
this role could not look at.";

/// Ask a server what of a database is encrypted, and what is not
#[derive(Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub struct CheckEncryption {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print an object
    #[arg(long)]
    json: bool,
    /// Exit 1 also for what looks like personal data and is not encrypted, and for what was not seen
    #[arg(long)]
    strict: bool,
    /// Rows of each table to look at for what is not encrypted
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
    sample_rows: i32,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl CheckEncryption {
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::NotSeen`], [`Error::Connection`], [`Error::Server`], [`Error::Output`].
    pub fn run(self) -> Result<()> {
        let mut client = self.connection.connect()?;
        let report = survey::survey(&mut client, self.sample_rows)?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.to_string())?;
        }
        let is_all = report.plaintext.is_empty() && report.not_seen.is_empty();
        match report.status {
            Status::Unknown => Err(Error::NotSeen),
            _ if report.is_as_declared() && (!self.strict || is_all) => Ok(()),
            _ => Err(Error::NotEncrypted),
        }
    }
}
