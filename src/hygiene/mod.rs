//! Keeps keys and plaintext out of what PostgreSQL shows and logs by itself.

mod alter_type;
mod log;
mod ordering;
mod redact;
mod statement;

pub use statement::is_outermost;

/// Installs the hooks.
pub fn init() {
    log::init();
    statement::init();
}
