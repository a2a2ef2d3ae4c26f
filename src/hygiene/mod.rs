//! Keeps keys and plaintext out of what PostgreSQL shows and logs by itself.

mod alter_type;
mod asked;
mod blank;
mod copied;
mod copy;
mod level;
mod lexer;
mod log;
mod naming;
mod ordering;
mod redact;
mod setting;
mod statement;
mod view;
mod worker;

pub use statement::is_outermost;

/// Installs the hooks.
pub fn init() {
    crate::settings::observe_keys(asked::note_key);
    log::init();
    copy::init();
    statement::init();
    worker::init();
}
