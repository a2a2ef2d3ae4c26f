//! Tables as encrypted files: what SQL can't do for `sql/files/`.
//!
//! - Out: `definition` asks SQL what a source is, and `plan` PostgreSQL what its query reads. `cursor` runs it, `rows` makes text of each row with
//!   `copy_text` and `output_settings`, and `content` compresses and encrypts. `export` writes that into a `new_file`, which appears as a whole or not at all, and `stream`
//!   gives it in pieces.
//! - In: `source` opens a file, or what `chunks` reads from a query. `import` has `definition` find or make the table, for which `expression` parses
//!   what the file says, and has `copy_from` fill it.
//! - Both: a `named_file` says which one failed, `key` is where the key of a file comes from, `progress` shows how far it is, and `record` writes to the audit log.
//!
//! The bytes are those of the envelope crate, `docs/file-format.md`.
//!
//! What is in a file: the definition of the table as one line of JSON, and then its rows in the text format of `COPY`, in UTF-8.

mod chunks;
mod content;
mod copy_from;
mod copy_text;
mod cursor;
mod definition;
mod export;
mod expression;
mod import;
mod key;
mod named_file;
mod new_file;
mod output_settings;
mod plan;
mod progress;
mod record;
mod rows;
mod source;
mod stream;

/// The media type of the content.
const CONTENT_TYPE: &str = "application/vnd.prism-crypt.table";
