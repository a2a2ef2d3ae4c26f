//! Tables as encrypted files: what SQL can't do for `sql/files/`.
//!
//! `new_file` makes a file that appears as a whole or not at all, `copy_text` writes rows as `COPY` does, `rows` runs the query that gives
//! them, `content` compresses and encrypts, and `export` puts these together. On the way back `source` opens a file and `import` has `COPY FROM` read it. `key` is where the
//! key of a file comes from, `plan` what a query would give, `progress` shows how far it is, and `record` writes to the audit log. The bytes are those of the envelope crate, `docs/file-format.md`.
//!
//! What is in a file: the definition of the table as one line of JSON, and then its rows in the text format of `COPY`, in UTF-8.

mod content;
mod copy_text;
mod export;
mod import;
mod key;
mod new_file;
mod plan;
mod progress;
mod record;
mod rows;
mod source;

/// The media type of the content.
const CONTENT_TYPE: &str = "application/vnd.prism-crypt.table";
