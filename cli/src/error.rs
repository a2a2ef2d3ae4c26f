//! The only error type: messages as the extension has them, with `DETAIL:` and `HINT:` lines. No variant ever holds plaintext, a key or a
//! nonce.

use prism_envelope::file::FileError;
use prism_envelope::{KeyError, RandomnessError};
use std::io::{self, Write};
use std::path::Path;

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source of keys holds something that is not a key.
    #[error("{error}")]
    Key { source_name: String, number: usize, error: KeyError },
    /// It is empty.
    #[error("{0} holds no key")]
    EmptyKeySource(String),
    /// The options name no source of keys, and there is nobody to ask.
    #[error("no key was given")]
    NoKey,
    /// Something that takes one key got several.
    #[error("one key is needed, and {0} were given")]
    SeveralKeys(usize),
    /// The variable that `--key-env` names is not there, or is not text.
    #[error("the environment variable \"{0}\" is not set")]
    KeyEnvironment(String),
    /// A key file that others may read, or that is too long.
    #[error("could not read key file \"{path}\"")]
    KeyFile { path: String, detail: String },
    /// Standard input can't be two things.
    #[error("standard input can't be the key and the {0}")]
    StandardInputTwice(&'static str),
    /// None of the given master keys is the one that is needed.
    #[error("encryption key mismatch")]
    KeyMismatch { wrapped: String, expected: String, loaded: Vec<String> },
    /// What the operating system says of a file.
    #[error("could not {action} file \"{path}\"")]
    File { action: &'static str, path: String, error: io::Error },
    /// Nothing is overwritten.
    #[error("file \"{0}\" already exists")]
    FileExists(String),
    /// A PENC file.
    #[error(transparent)]
    Penc(#[from] FileError),
    /// Standard input.
    #[error("could not read standard input")]
    Input(#[source] io::Error),
    /// Standard output.
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

impl Error {
    /// What the operating system says of a file.
    pub fn file(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self::File { action, path: path.display().to_string(), error }
    }

    /// 1, or 2 if the command could not be meant like that.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoKey | Self::StandardInputTwice(_) => 2,
            _ => 1,
        }
    }

    /// Its detail.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Key { source_name, number, .. } => format!("Key {number} of {source_name}."),
            Self::KeyFile { detail, .. } => detail.clone(),
            Self::KeyMismatch { wrapped, expected, loaded } => {
                format!("{wrapped} is wrapped by the master key {expected}, given: {}.", loaded.join(", "))
            }
            Self::File { error, .. } | Self::Input(error) | Self::Output(error) => format!("{error}."),
            _ => return None,
        })
    }

    /// Its hint.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Key { .. } => "A key is 64 hexadecimal digits or the base64 of 32 bytes.",
            Self::NoKey => "Use --key-file, --key-env or --key-stdin, or set PRISM_CRYPT_KEY.",
            Self::KeyMismatch { .. } => "Give the master key that wrapped it.",
            _ => return None,
        })
    }

    /// Writes it to standard error. Nothing, if it is that nobody reads what is written.
    pub fn report(&self) {
        if matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
        let mut text = format!("prism-crypt: {self}\n");
        for (label, line) in [("DETAIL", self.detail()), ("HINT", self.hint().map(str::to_owned))] {
            if let Some(line) = line {
                text.push_str(&format!("{label}:  {line}\n"));
            }
        }
        // There is nobody else to tell.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
