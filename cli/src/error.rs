//! The only error type: messages as the extension has them, with `DETAIL:` and `HINT:` lines. No variant ever holds plaintext, a key or a
//! nonce.

use crate::output::printable;
use prism_envelope::armor::ArmorError;
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
    /// It ends with `/` or `..`.
    #[error("\"{0}\" is not the path of a file")]
    FilePath(String),
    /// Only one is overwritten.
    #[error("\"{0}\" is not a regular file")]
    NotRegularFile(String),
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
    /// Words of a key on paper.
    #[error("{count} words were given, and a key has {expected}")]
    WordCount { count: usize, expected: usize },
    /// Their numbers, from 1, with what was read.
    #[error("not in the list of words: {}", list_words(.0))]
    UnknownWords(Vec<(usize, String)>),
    /// Each is in the list, but together they are no key.
    #[error("the words do not belong together: their check bits are wrong")]
    WordChecksum,
    /// Content of another media type than the command can read.
    #[error("the file holds {0}, not a table")]
    FileContent(String),
    /// The content is authentic, but not as docs/file-format.md has it.
    #[error("row {row} of the content is malformed")]
    Row { row: u64, detail: &'static str },
    /// A type that would be more than a type in a statement, or a name that can't be one.
    #[error("the {part} of column \"{column}\" of the file is malformed")]
    Column { column: String, part: &'static str },
    /// The name of its table.
    #[error("the name of the table of the file is malformed")]
    TableName,
    /// It was encrypted without a header.
    #[error("a file of version 1 has its key given, and is not compressed")]
    PlainFormat,
    /// CSV that is none.
    #[error("line {line} of the CSV is malformed")]
    Csv { line: u64, detail: String },
    /// An option that does not fit the others, or its file.
    #[error("{0}")]
    Usage(String),
    /// What `inspect` was given.
    #[error("nothing of prism_crypt was found")]
    NothingFound,
    /// A value's text form.
    #[error("the text form is malformed")]
    TextForm(#[from] ArmorError),
    /// pg_restore, which reads what is no plain dump.
    #[error("could not read the dump with pg_restore")]
    PgRestore { detail: String },
    /// The server, as `check-encryption` asks it.
    #[error("could not connect to the server")]
    Connection { detail: String },
    /// There is none for this account, and nobody to ask.
    #[error("the server asks for a password, and there is none")]
    PasswordNeeded,
    /// The server, later.
    #[error("the server refused what it was asked")]
    Server { detail: String },
    /// A dump, as `recover` sees it.
    #[error("{message}")]
    Dump { message: String, detail: Option<String>, hint: Option<&'static str> },
    /// What `check-encryption` is for.
    #[error("not everything is encrypted that should be")]
    NotEncrypted,
    /// Then nobody knows.
    #[error("not everything could be seen")]
    NotSeen,
}

fn list_words(words: &[(usize, String)]) -> String {
    words.iter().map(|(number, word)| format!("{number}. \"{word}\"")).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// What the operating system says of a file.
    pub fn file(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self::File { action, path: path.display().to_string(), error }
    }

    /// What came of reading an encrypted file.
    pub fn content(error: io::Error) -> Self {
        Self::Penc(error.into())
    }

    /// 1, or 2 if the command could not be meant like that.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoKey
            | Self::StandardInputTwice(_)
            | Self::SeveralKeys(_)
            | Self::PlainFormat
            | Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Its detail.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Key { source_name, number, .. } => format!("Key {number} of {source_name}."),
            Self::KeyFile { detail, .. }
            | Self::Csv { detail, .. }
            | Self::PgRestore { detail }
            | Self::Connection { detail }
            | Self::Server { detail } => detail.clone(),
            Self::Row { detail, .. } => (*detail).to_owned(),
            Self::Dump { detail, .. } => return detail.clone(),
            Self::TextForm(error) => format!("{error}."),
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
            Self::PasswordNeeded => "Set PGPASSWORD, or write a password file: ~/.pgpass, mode 0600.",
            Self::NoKey => "Use --key-file, --key-env or --key-stdin, or set PRISM_CRYPT_KEY.",
            Self::Dump { hint, .. } => return *hint,
            Self::SeveralKeys(_) => "A file whose key was given has that one key.",
            Self::UnknownWords(_) => {
                "Four letters of a word are enough; a word may not have more than it has."
            }
            Self::WordChecksum => "Compare each of them, and their order, with the paper.",
            Self::FileContent(_) => "--format raw gives its bytes.",
            Self::PlainFormat => "Write version 2.",
            Self::Penc(FileError::Io(_)) => "The file could not be read to its end.",
            Self::KeyMismatch { .. } => "Give the master key that wrapped it.",
            _ => return None,
        })
    }

    /// Writes it to standard error. Nothing, if it is that nobody reads what is written.
    pub fn report(&self) {
        if matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
        let mut text = format!("prism-crypt: {}\n", printable(&self.to_string()));
        for (label, line) in [("DETAIL", self.detail()), ("HINT", self.hint().map(str::to_owned))] {
            if let Some(line) = line {
                text.push_str(&format!("{label}:  {}\n", printable(&line)));
            }
        }
        // There is nobody else to tell.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
