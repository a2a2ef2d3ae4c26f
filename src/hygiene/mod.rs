//! Keeps keys and plaintext out of what PostgreSQL shows and logs by itself.
//!
//! - The text of statements: `client_text` blanks the keys in what the client sent, as soon as anybody looks at it. For that
//!   `lexer` reads tokens, `view` what is quoted, `naming` finds the setting's name, and `blank` takes out what may be a key.
//!   `key_statement` knows from the parse tree that a statement sets one. `activity` shows the result in `pg_stat_activity`.
//! - Messages: `log` has the hook of the log. It withholds keys and shown plaintext by the means of `redact`.
//! - COPY into encrypted columns: `copy_statement` catches what leaves it, `copy_message` says what of that quotes the input,
//!   and `level` lets the hook see what only the client is sent.
//! - Two answers to what users do without thinking of it: `alter_type` refuses to store a column in plaintext unless told to,
//!   and `order_by_hint` says how to sort.

mod activity;
pub mod alter_type;
mod blank;
pub mod client_text;
mod copy_message;
pub mod copy_statement;
pub mod key_statement;
mod level;
mod lexer;
mod log;
mod naming;
mod order_by_hint;
mod redact;
mod view;

/// Has keys noted that settings are given. To be called before they are declared: a session may have set one before.
pub fn observe_keys() {
    crate::settings::observe_keys(client_text::note_key);
}

/// Installs the hooks.
pub fn init() {
    log::init();
    copy_statement::init();
}
