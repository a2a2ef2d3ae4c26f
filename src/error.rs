//! The only error type, with its message and SQLSTATE. Details and hints are in `hints`.
//!
//! Functions return an [`Error`]; those called from SQL return it as [`SqlResult`], and pgrx has PostgreSQL report it. To add
//! an error: a variant with its message, its SQLSTATE in `code`, a detail and a hint if they help, a row in `docs/errors.md`
//! and, if SQL can trigger it, a statement in `tests/pg_regress/sql/errors.sql`. Texts quote names and numbers, never a
//! plaintext, a key or a nonce.
//!
//! This is not a `mod.rs` because PostgreSQL shows the name of this file as the location of each error.

mod hints;
mod warning;

use pgrx::PgLogLevel;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::PgSqlErrorCode;
use prism_envelope::armor::ArmorError;
use prism_envelope::file::FileError;
use prism_envelope::{FormatError, KeyError, KeyVersion, OpenError, RandomnessError, SealError};
use std::collections::TryReserveError;
use std::path::Path;
use std::time::Duration;

pub use warning::{log, postgres_string, warn};

/// The result of every function called from SQL. PostgreSQL reports the error with its own SQLSTATE.
pub type SqlResult<T> = Result<T, ErrorReport>;

/// Everything that can go wrong. No variant ever holds plaintext, a key or a nonce.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{error}")]
    MasterKey { source_name: &'static str, line: Option<usize>, error: KeyError },
    #[error("no master key is set")]
    NoMasterKey,
    #[error("the source in {setting} holds no master key")]
    EmptyKeySource { setting: &'static str },
    #[error("could not read the master key file")]
    KeyFile { detail: String },
    #[error("the master key command failed")]
    KeyCommand { detail: String },
    #[error("the environment variable that prism_crypt.master_key_env names is not set")]
    KeyEnvironment,
    #[error("encryption key mismatch")]
    KeyMismatch { key: KeyName, keyset: Option<String>, expected: String, loaded: Vec<String> },
    #[error("data key version {0} is damaged")]
    DataKeyDamaged(KeyVersion),
    #[error("the index key of keyset \"{0}\" is damaged")]
    IndexKeyDamaged(String),
    #[error("no index key in keyset \"{0}\"")]
    NoIndexKey(String),
    #[error("the index key of key version {0} is not known")]
    IndexKeyUnknown(KeyVersion),
    #[error("the index key of keyset \"{0}\" is destroyed")]
    IndexKeyDestroyed(String),
    #[error("permission denied to search encrypted values")]
    SearchDenied,
    #[error("bits must be between 1 and {}", prism_envelope::MAX_BLIND_INDEX_BITS)]
    BlindIndexBits,
    #[error("values of type encrypted_text have no order")]
    NoOrder,
    #[error("this result is announced as text, for the client only")]
    ResultOfClient,
    #[error("extended statistics can't combine encrypted values with other columns")]
    Statistics,
    #[error("no active data key in keyset \"{0}\"")]
    NoDataKey(String),
    #[error("keyset \"{0}\" does not exist")]
    NoKeyset(String),
    #[error("key version {0} does not exist")]
    UnknownVersion(KeyVersion),
    #[error("key version {0} is disabled")]
    Disabled(KeyVersion),
    #[error("key version {0} is destroyed")]
    Destroyed(KeyVersion),
    #[error("the table prism_crypt.{table} can't be read")]
    KeyTable { table: &'static str, detail: &'static str },
    #[error("an index needs a key that is not loaded")]
    KeysNotReady { cause: Option<String> },
    #[error("the master key command took longer than prism_crypt.master_key_timeout")]
    KeyCommandTimeout { limit: Duration },
    #[error("Decryption failed (wrong key or corrupted data)")]
    Authentication(KeyVersion),
    #[error("invalid input syntax for type encrypted_text")]
    TextForm(ArmorError),
    #[error("invalid binary input for type encrypted_text")]
    BinaryForm(FormatError),
    #[error("not an encrypted value of prism_crypt")]
    NotAnEnvelope(FormatError),
    #[error("stored value of type encrypted_text is damaged")]
    StoredValue(FormatError),
    #[error("stored {0} is damaged")]
    DamagedNested(&'static str),
    #[error("permission denied to load ciphertext")]
    LoadDenied,
    #[error("a master key that wraps no key yet must be set by a key administrator")]
    ForeignMasterKey,
    #[error("permission denied to rotate")]
    RotateDenied,
    #[error("permission denied to take a sample of a table")]
    SampleDenied,
    #[error("a sample can only be taken of an ordinary table")]
    SampleSource,
    #[error("the copy of a sample must be a plain temporary table with the columns of its source")]
    SampleCopy,
    #[error("an index key was replaced while the transaction was running")]
    IndexKeyReplaced,
    #[error("can't prepare a transaction that has built indexes on encrypted values")]
    PreparedBuild,
    #[error("permission denied for function {0}")]
    FunctionDenied(String),
    #[error("permission denied to encrypt")]
    EncryptDenied,
    #[error("permission denied to decrypt")]
    DecryptDenied,
    #[error("the text is an encrypted value already")]
    SealedAlready,
    #[error("rows and arrays of encrypted values can't be encrypted as one text")]
    MadeOfCiphertext,
    #[error("the value is bound to a context")]
    BoundToContext(KeyVersion),
    #[error("column \"{column}\" can't be converted from encrypted_text without a USING clause")]
    TypeChange { column: String, of_composite: bool },
    #[error("field class \"{found}\" does not match \"{expected}\"")]
    ClassMismatch { found: &'static str, expected: &'static str },
    #[error("field class \"{0}\" is not known")]
    UnknownClass(String),
    #[error("invalid type modifier for encrypted_text")]
    TypeModifier,
    #[error("a value without a search tag can't be loaded into a searchable column")]
    NotSearchable,
    #[error("the value holds bytes, not text")]
    NotText(KeyVersion),
    #[error("the value is not valid text")]
    InvalidText(KeyVersion),
    #[error("the value has a character with no equivalent in encoding \"{encoding}\"")]
    NotInEncoding { version: KeyVersion, encoding: String },
    #[error("value of {length} bytes is too long to encrypt")]
    TooLong { length: usize, limit: usize },
    #[error("out of memory")]
    OutOfMemory,
    #[error("key version {version} has sealed as many values as it may")]
    SealLimit { version: KeyVersion, limit: u64 },
    #[error("the operating system gave no random bytes")]
    Randomness,
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    #[error("{0} must be {1}")]
    OneOf(&'static str, &'static str),
    #[error("the plaintext is no value of type {0}")]
    NotOfType(String),
    #[error("one of source and target must be of type encrypted_text, and only one")]
    NotOneSealed,
    #[error("this function can only be called by a trigger")]
    NotTrigger,
    #[error("trigger \"{0}\" does not fit its table")]
    UnfitTrigger(String),
    #[error("trigger \"{0}\" is not one that the owner of its table has made for a migration")]
    ForeignTrigger(String),
    #[error("permission denied for the owner of table \"{table}\" to {right}")]
    OwnerDenied { table: String, right: &'static str },
    #[error("{what} can't run inside a transaction block or a function")]
    TransactionBlock { what: String },
    #[error("constraints can't be deferred at the end of a batch")]
    DeferralOver,
    #[error("the caller of this function is not known")]
    UnknownCaller,
    #[error("only one statement that changes an index CONCURRENTLY can be run for a procedure")]
    StatementKind,
    #[error("a statement can't be run for a function with the rights of another role")]
    StatementOfOther,
    #[error("a statement is still running for this session")]
    StatementRunning,
    #[error("no statement is running for this session")]
    NoStatement,
    #[error("no background worker is free")]
    NoWorker,
    #[error("the background worker that ran the statement was terminated")]
    StatementLost,
    #[error("could not {action} file \"{path}\"")]
    File { action: &'static str, path: String, error: std::io::Error },
    #[error("file \"{0}\" already exists")]
    FileExists(String),
    #[error("\"{0}\" is not the absolute path of a file")]
    FilePath(String),
    #[error("\"{0}\" is not a regular file")]
    NotRegularFile(String),
    #[error("permission denied to {0} files of the server")]
    ServerFileDenied(&'static str),
    #[error("permission denied to import into the table")]
    ImportDenied,
    #[error("the file has no columns")]
    ImportColumns,
    #[error("{error}")]
    FileKey { error: KeyError },
    #[error("the file needs its key")]
    FileKeyNeeded,
    #[error("the key of the file is wrapped in it")]
    FileKeyNotWanted,
    #[error("Decryption failed (wrong key or corrupted data)")]
    FileAuthentication,
    #[error("the file is truncated")]
    FileTruncated,
    #[error("the file is not a PENC file")]
    FileMagic,
    #[error("PENC version {0} is not known")]
    FileVersion(u8),
    #[error("the header of the file is malformed")]
    FileHeader,
    #[error("the file holds {0}, not a table")]
    FileContent(String),
    #[error("the content is too long for this version of the format")]
    FileLength,
    #[error("the pieces of a file must come as one column of type bytea")]
    ChunkType,
    #[error("a file of version 1 needs a key, and is not compressed")]
    PlainFormat,
    #[error("a row is too long to be read again")]
    RowTooLong,
    #[error("the definition of the table is too long for a file")]
    DefinitionTooLong,
    #[error("the content of the file is malformed")]
    FileMalformed,
    #[error("something follows the rows of the file")]
    FileTrailing,
    #[error("a stream must be read in the transaction that began it")]
    StreamOver,
    #[error("a default or generated column of the file is not one expression")]
    NotOneExpression,
    #[error("the source must be a table, a view, or one query in parentheses")]
    ExportSource,
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// A key that a master key wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyName {
    Data(KeyVersion),
    Index(u8),
    File,
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(version) => write!(f, "Key version {version}"),
            Self::Index(generation) => write!(f, "Index key generation {generation}"),
            Self::File => f.write_str("The key of the file"),
        }
    }
}

impl Error {
    /// What the operating system says of a file.
    pub fn file(action: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::File { action, path: path.display().to_string(), error }
    }

    /// The error for a failure to open a value of this key version.
    pub fn open(version: KeyVersion, error: OpenError) -> Self {
        match error {
            OpenError::Authentication => Self::Authentication(version),
            _ => Self::Internal("buffer of a wrong length"),
        }
    }

    /// The error for a failure to seal or reseal a value of this key version.
    pub fn seal(version: KeyVersion, error: SealError) -> Self {
        match error {
            SealError::Open(error) => Self::open(version, error),
            SealError::Randomness(_) => Self::Randomness,
            _ => Self::Internal("buffer of a wrong length"),
        }
    }

    /// Raises the error. For guarded PostgreSQL callbacks, which have no result to return it in.
    pub fn raise(self) {
        ErrorReport::from(self).report(PgLogLevel::ERROR);
    }

    /// Whether the error concerns one value or its key, not the setup of the server or session.
    pub fn is_about_the_value(&self) -> bool {
        matches!(
            self,
            Self::KeyMismatch { .. }
                | Self::DataKeyDamaged(_)
                | Self::UnknownVersion(_)
                | Self::Disabled(_)
                | Self::Destroyed(_)
                | Self::Authentication(_)
                | Self::BoundToContext(_)
                | Self::NotAnEnvelope(_)
                | Self::StoredValue(_)
                | Self::NotText(_)
                | Self::InvalidText(_)
                | Self::NotInEncoding { .. }
        )
    }

    /// Whether a value can't be opened or compared because its key, the index key or the master key is missing.
    pub fn is_for_want_of_a_key(&self) -> bool {
        matches!(
            self,
            Self::NoMasterKey | Self::UnknownVersion(_) | Self::KeyMismatch { .. } | Self::NoIndexKey(_)
        )
    }

    /// Its SQLSTATE.
    pub fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Self::MasterKey { .. }
            | Self::ClassMismatch { .. }
            | Self::NotSearchable
            | Self::SealedAlready
            | Self::UnknownClass(_)
            | Self::BlindIndexBits
            | Self::OutOfRange(_)
            | Self::OneOf(..)
            | Self::TypeModifier => ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NoMasterKey
            | Self::EmptyKeySource { .. }
            | Self::KeyEnvironment
            | Self::KeyMismatch { .. }
            | Self::NoDataKey(_)
            | Self::NoIndexKey(_)
            | Self::IndexKeyDestroyed(_)
            | Self::IndexKeyUnknown(_)
            | Self::Disabled(_)
            | Self::Destroyed(_)
            | Self::KeysNotReady { .. }
            | Self::DeferralOver
            | Self::NoStatement
            | Self::KeyTable { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::KeyFile { .. } => ERRCODE_CONFIG_FILE_ERROR,
            Self::KeyCommand { .. } | Self::KeyCommandTimeout { .. } => ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
            Self::DataKeyDamaged(_)
            | Self::IndexKeyDamaged(_)
            | Self::StoredValue(_)
            | Self::DamagedNested(_) => ERRCODE_DATA_CORRUPTED,
            Self::NoKeyset(_) | Self::UnknownVersion(_) => ERRCODE_UNDEFINED_OBJECT,
            Self::Authentication(_) | Self::BoundToContext(_) => {
                ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION
            }
            Self::TextForm(_) | Self::NotOfType(_) => ERRCODE_INVALID_TEXT_REPRESENTATION,
            Self::BinaryForm(_) | Self::NotAnEnvelope(_) => ERRCODE_INVALID_BINARY_REPRESENTATION,
            Self::LoadDenied
            | Self::SearchDenied
            | Self::DecryptDenied
            | Self::EncryptDenied
            | Self::FunctionDenied(_)
            | Self::RotateDenied
            | Self::SampleDenied
            | Self::ForeignMasterKey
            | Self::OwnerDenied { .. }
            | Self::ForeignTrigger(_)
            | Self::StatementOfOther
            | Self::UnknownCaller => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::IndexKeyReplaced => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::SampleSource | Self::SampleCopy => ERRCODE_WRONG_OBJECT_TYPE,
            Self::NoOrder
            | Self::ResultOfClient
            | Self::Statistics
            | Self::PreparedBuild
            | Self::StatementKind => ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::MadeOfCiphertext => ERRCODE_CANNOT_COERCE,
            Self::NotText(_) | Self::NotOneSealed | Self::TypeChange { .. } => ERRCODE_DATATYPE_MISMATCH,
            Self::InvalidText(_) => ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            Self::NotInEncoding { .. } => ERRCODE_UNTRANSLATABLE_CHARACTER,
            Self::TooLong { .. } | Self::SealLimit { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::OutOfMemory => ERRCODE_OUT_OF_MEMORY,
            Self::NoWorker => ERRCODE_INSUFFICIENT_RESOURCES,
            Self::StatementRunning => ERRCODE_OBJECT_IN_USE,
            Self::StatementLost => ERRCODE_ADMIN_SHUTDOWN,
            Self::Randomness => ERRCODE_SYSTEM_ERROR,
            Self::NotTrigger | Self::UnfitTrigger(_) => ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Self::TransactionBlock { .. } => ERRCODE_ACTIVE_SQL_TRANSACTION,
            Self::File { error, .. } => file_access_code(error),
            Self::FileExists(_) => ERRCODE_DUPLICATE_FILE,
            Self::FilePath(_) => ERRCODE_INVALID_NAME,
            Self::NotRegularFile(_) | Self::FileContent(_) => ERRCODE_WRONG_OBJECT_TYPE,
            Self::ImportColumns => ERRCODE_DATATYPE_MISMATCH,
            Self::ServerFileDenied(_) | Self::ImportDenied => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::ChunkType
            | Self::FileKey { .. }
            | Self::FileKeyNeeded
            | Self::FileKeyNotWanted
            | Self::PlainFormat => ERRCODE_INVALID_PARAMETER_VALUE,
            Self::ExportSource | Self::NotOneExpression => ERRCODE_SYNTAX_ERROR,
            Self::RowTooLong | Self::DefinitionTooLong => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::FileMalformed | Self::FileTrailing => ERRCODE_BAD_COPY_FILE_FORMAT,
            Self::StreamOver => ERRCODE_INVALID_CURSOR_STATE,
            Self::FileAuthentication => ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
            Self::FileTruncated | Self::FileMagic | Self::FileVersion(_) | Self::FileHeader => {
                ERRCODE_BAD_COPY_FILE_FORMAT
            }
            Self::FileLength => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::Internal(_) => ERRCODE_INTERNAL_ERROR,
        }
    }
}

/// As `errcode_for_file_access` (elog.c) has them.
fn file_access_code(error: &std::io::Error) -> PgSqlErrorCode {
    use PgSqlErrorCode::*;
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ERRCODE_INSUFFICIENT_PRIVILEGE,
        ErrorKind::NotFound => ERRCODE_UNDEFINED_FILE,
        ErrorKind::AlreadyExists => ERRCODE_DUPLICATE_FILE,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => ERRCODE_WRONG_OBJECT_TYPE,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ERRCODE_DISK_FULL,
        ErrorKind::FileTooLarge => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        _ => ERRCODE_IO_ERROR,
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Decryption => Self::FileAuthentication,
            FileError::Truncated => Self::FileTruncated,
            FileError::Magic => Self::FileMagic,
            FileError::Version(version) => Self::FileVersion(version),
            FileError::Header => Self::FileHeader,
            FileError::Length => Self::FileLength,
            FileError::Randomness(_) => Self::Randomness,
            FileError::OutOfMemory => Self::OutOfMemory,
            // Ours, or what a decompressor says.
            FileError::Io(error) => error.downcast::<Self>().unwrap_or(Self::FileMalformed),
            _ => Self::Internal("unknown error of a file"),
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let mut report = Self::new(error.code(), error.to_string(), "prism_crypt");
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail);
        }
        match error.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

impl From<TryReserveError> for Error {
    fn from(_: TryReserveError) -> Self {
        Self::OutOfMemory
    }
}

impl From<RandomnessError> for Error {
    fn from(_: RandomnessError) -> Self {
        Self::Randomness
    }
}
