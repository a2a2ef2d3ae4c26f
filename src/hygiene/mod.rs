//! Keeps keys and plaintext out of what PostgreSQL shows and logs by itself.
//!
//! - The text of statements: `client_text` blanks the keys in what the client sent, as soon as anything looks at it. `lexer`
//!   reads its tokens, `view` what is quoted, `naming` finds the setting's name, and `blank` blanks what may be a key.
//!   `file_call` does so in calls of functions that take the key of a file, with the words that `likely_key` finds.
//!   `key_statement` tells from the parse tree that a statement sets a key. `activity` shows the result in `pg_stat_activity`.
//! - Messages: `log` has the log hook, which withholds keys and shown plaintext with the functions in `redact`.
//! - COPY into encrypted columns: `copy_statement` catches what leaves it, `copy_message` withholds what quotes the input, and
//!   `level` lets the hook see what only the client is sent.
//! - Help against two easy mistakes: `alter_type` refuses to store a column in plaintext unless told to, and `denied_hint` says which
//!   access a role lacks.

mod activity;
pub mod alter_type;
mod blank;
pub mod client_text;
mod copy_message;
pub mod copy_statement;
mod denied_hint;
mod file_call;
pub mod key_statement;
mod level;
mod lexer;
mod likely_key;
mod log;
mod naming;
mod redact;
mod view;

/// Starts noting the keys that the session sets, or gives to files. Called before the settings are declared, since one may already be set.
pub fn observe_keys() {
    crate::settings::observe_keys(client_text::note_key);
}

/// Installs the hooks.
pub fn init() {
    log::init();
    copy_statement::init();
}
