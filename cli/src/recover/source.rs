//! Where a dump comes from. It is read twice: the keys of a database may stand behind the rows that they open.

use crate::error::{Error, Result};
use crate::input::{Input, WRITING};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A dump.
pub enum Source {
    /// SQL.
    Plain(Input),
    /// SQL that came through standard input.
    Kept(File),
    /// Another form, which `pg_restore` reads.
    Archive(PathBuf),
    /// The same, that came through standard input.
    KeptArchive(File),
}

/// Where the name of the format is in a tar file (POSIX, ustar).
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// The variables that `pg_restore` gets.
const VARIABLES: [&str; 7] = ["PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_MESSAGES"];

impl Source {
    /// Looks what it is. Standard input is kept in a file that has no name, as it can be read once only. It holds no plaintext.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Input`], [`Error::Dump`] if it is compressed.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Archive(path.to_owned()));
        }
        let input = Input::open(path)?;
        let failed = |error| Error::file("read", path, error);
        if input.is_regular() {
            let is_archive = is_archive(&mut File::open(path).map_err(failed)?)?;
            return Ok(if is_archive { Self::Archive(path.to_owned()) } else { Self::Plain(input) });
        }
        let mut kept = tempfile::tempfile().map_err(failed)?;
        io::copy(&mut input.read("reading")?, &mut kept).map_err(unreadable)?;
        kept.rewind().map_err(failed)?;
        Ok(if is_archive(&mut kept)? { Self::KeptArchive(kept) } else { Self::Kept(kept) })
    }

    /// Reads it from its beginning, as SQL. `last`: for the last time.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::PgRestore`].
    pub fn read(&self, last: bool) -> Result<Box<dyn Read>> {
        Ok(match self {
            Self::Plain(input) => input.read(if last { WRITING } else { "reading" })?,
            Self::Kept(file) => Box::new(rewound(file)?),
            Self::Archive(path) => Box::new(Restored::new(Some(path), Stdio::null())?),
            Self::KeptArchive(file) => Box::new(Restored::new(None, rewound(file)?.into())?),
        })
    }
}

/// Says that the dump can't be read.
pub fn unreadable(error: io::Error) -> Error {
    Error::Dump {
        message: "could not read the dump".to_owned(),
        detail: Some(format!("{error}.")),
        hint: None,
    }
}

fn rewound(file: &File) -> Result<File> {
    let mut file = file.try_clone().map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    Ok(file)
}

fn is_archive(file: &mut File) -> Result<bool> {
    let mut head = Vec::new();
    file.take(512).read_to_end(&mut head).map_err(unreadable)?;
    if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"]
        .iter()
        .any(|magic| head.starts_with(magic))
    {
        return Err(Error::Dump {
            message: "the dump is compressed".to_owned(),
            detail: None,
            hint: Some("Decompress it first, as by zcat dump.sql.gz | prism-crypt recover -."),
        });
    }
    Ok(head.starts_with(b"PGDMP") || head.get(TAR_MAGIC) == Some(b"ustar"))
}

/// What `pg_restore` writes. It must have ended well.
struct Restored {
    child: Child,
    output: ChildStdout,
}

impl Restored {
    fn new(path: Option<&Path>, input: Stdio) -> Result<Self> {
        let failed = |detail: String| Error::PgRestore { detail };
        let mut command = Command::new("pg_restore");
        command.arg("--file=-").stdin(input).stdout(Stdio::piped());
        // Not the one with the key, whatever its name is.
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| VARIABLES.iter().any(|known| name == known)));
        if let Some(path) = path {
            command.arg("--").arg(path);
        }
        let mut child = command.spawn().map_err(|error| failed(format!("{error}.")))?;
        let output = child.stdout.take().ok_or_else(|| failed("It has no output.".to_owned()))?;
        Ok(Self { child, output })
    }
}

impl Read for Restored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("pg_restore ended with {status}")));
            }
        }
        Ok(count)
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // It has ended already, unless an error came before its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
