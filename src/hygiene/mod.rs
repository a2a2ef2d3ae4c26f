//! Keeps keys and plaintext out of what PostgreSQL shows and logs by itself.

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
