//! prism_crypt: column encryption inside PostgreSQL. See `README.md`, and `docs/` for what each part promises.

mod bare_call;
mod census;
mod datatype;
mod datum;
mod error;
mod files;
mod functions;
mod hooks;
mod hygiene;
mod identity;
mod install;
mod interrupts;
mod jobs;
mod keyring;
mod migration;
mod nodes;
mod plan_cache;
mod privilege;
mod processor;
mod query_constants;
mod result_type;
mod rotation;
mod sampling;
mod search;
mod settings;
mod sqlstate;
mod status;
mod varlena;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

processor::checked_init!();

/// What `_PG_init` does once it may.
#[pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn prism_crypt_init() {
    // If RUST_BACKTRACE is set, pgrx would otherwise send stack traces to clients in the detail of errors.
    // SAFETY: a PostgreSQL process has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    hygiene::observe_keys();
    settings::init();
    datatype::init();
    query_constants::init();
    search::init();
    hygiene::init();
    hooks::init();
}

#[cfg(any(test, feature = "pg_test"))]
mod tests;

/// What `cargo pgrx test` expects.
#[cfg(test)]
pub mod pg_test {
    /// Called once before the tests.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test server.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'prism_crypt'"]
    }
}
