//! Where keys come from: a file, a variable, standard input, or somebody at a terminal. Never an argument, which every user of the machine
//! can read.

use crate::error::{Error, Result};
use clap::Args;
use prism_envelope::{KeyBytes, MasterKey, parse_keys};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The variable that is looked at when no option says where the key is.
pub const DEFAULT_VARIABLE: &str = "PRISM_CRYPT_KEY";
/// The most bytes that a source of keys may give, as for the extension.
const MAX_SOURCE: u64 = 64 << 10;

/// Where the keys are. One of them; without any, the variable `PRISM_CRYPT_KEY`, or a question at the terminal.
#[derive(Args, Debug, Default)]
#[group(multiple = false)]
pub struct KeyArgs {
    /// File with the key (several: one a line), readable by you only
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    key_file: Option<PathBuf>,
    /// Environment variable with the key [default: PRISM_CRYPT_KEY]
    #[arg(long, value_name = "NAME", help_heading = "Keys")]
    key_env: Option<String>,
    /// Read the key from standard input; at a terminal, it asks without echo
    #[arg(long, help_heading = "Keys")]
    key_stdin: bool,
}

/// At least one key: a master key, or the key of a file. Wiped when dropped; has no `Debug`.
pub struct Keys(Vec<KeyBytes>);

impl KeyArgs {
    /// Reads them.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::Key`], [`Error::EmptyKeySource`], [`Error::KeyFile`], [`Error::KeyEnvironment`], [`Error::Input`].
    pub fn load(&self) -> Result<Keys> {
        let default = || std::env::var_os(DEFAULT_VARIABLE).is_some();
        let (name, text) = if let Some(path) = &self.key_file {
            (format!("file \"{}\"", path.display()), read_file(path)?)
        } else if let Some(name) = &self.key_env {
            (format!("variable \"{name}\""), read_variable(name)?)
        } else if self.key_stdin {
            ("standard input".to_owned(), read_standard_input()?)
        } else if default() {
            (format!("variable \"{DEFAULT_VARIABLE}\""), read_variable(DEFAULT_VARIABLE)?)
        } else if io::stdin().is_terminal() {
            ("standard input".to_owned(), ask()?)
        } else {
            return Err(Error::NoKey);
        };
        let keys = parse_keys(&text).map_err(|(number, error)| Error::Key {
            source_name: name.clone(),
            number,
            error,
        })?;
        if keys.is_empty() { Err(Error::EmptyKeySource(name)) } else { Ok(Keys(keys)) }
    }

    /// As [`load`](Self::load), where standard input may be something else.
    ///
    /// # Errors
    /// [`Error::StandardInputTwice`] if it is, and those of [`load`](Self::load).
    pub fn load_beside(&self, input_is_standard: bool, what: &'static str) -> Result<Keys> {
        if input_is_standard && self.key_stdin {
            return Err(Error::StandardInputTwice(what));
        }
        self.load()
    }
}

impl Keys {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyBytes> {
        self.0.iter()
    }

    /// The one key.
    ///
    /// # Errors
    /// [`Error::SeveralKeys`].
    pub fn single(&self) -> Result<&KeyBytes> {
        match self.0.as_slice() {
            [key] => Ok(key),
            keys => Err(Error::SeveralKeys(keys.len())),
        }
    }

    /// All of them as master keys, in their order. The first one wraps.
    pub fn master_keys(&self) -> Vec<MasterKey> {
        self.0.iter().map(MasterKey::new).collect()
    }
}

/// The rule is that of the extension, and of `ssl_key_file`. What is no regular file, as a pipe, has no mode that says something.
fn read_file(path: &Path) -> Result<Zeroizing<String>> {
    let refused =
        |detail: &str| Error::KeyFile { path: path.display().to_string(), detail: detail.to_owned() };
    let failed = |error: io::Error| refused(&format!("{error}."));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(refused("It is a directory."));
    }
    // The check uses the open file, so nobody can swap it.
    let forbidden = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    if metadata.is_file() && metadata.mode() & forbidden != 0 {
        return Err(refused(
            "It must be closed to group and others: mode 0600 or less, or 0640 or less when it belongs to root.",
        ));
    }
    read_text(file).map_err(failed)?.ok_or_else(|| refused("It is no text, or longer than 64 KiB."))
}

fn read_variable(name: &str) -> Result<Zeroizing<String>> {
    std::env::var(name).map(Zeroizing::new).map_err(|_| Error::KeyEnvironment(name.to_owned()))
}

fn read_standard_input() -> Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        return ask();
    }
    let text = read_text(io::stdin().lock()).map_err(Error::Input)?;
    text.ok_or_else(|| {
        Error::Input(io::Error::new(io::ErrorKind::InvalidData, "no text, or longer than 64 KiB"))
    })
}

fn ask() -> Result<Zeroizing<String>> {
    rpassword::prompt_password("Key: ").map(Zeroizing::new).map_err(Error::Input)
}

/// `None` if it is too long, or no UTF-8.
fn read_text(from: impl Read) -> io::Result<Option<Zeroizing<String>>> {
    // A buffer that grows would leave parts of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SOURCE as usize + 1));
    from.take(MAX_SOURCE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SOURCE {
        return Ok(None);
    }
    Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
}
