//! prism_crypt: column encryption inside PostgreSQL. See `README.md`, and `docs/` for what each part promises.

mod census;
mod datatype;
mod datum;
mod error;
mod functions;
mod hooks;
mod hygiene;
mod identity;
mod interrupts;
mod keyring;
mod nodes;
mod plan_cache;
mod privilege;
mod query_constants;
mod rotation;
mod search;
mod settings;
mod sqlstate;
mod status;
mod varlena;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

/// Runs once, when PostgreSQL loads the library.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // pgrx would otherwise send stack traces to clients, as detail of their errors, where RUST_BACKTRACE is set.
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

// The scripts run in this order. They are written by hand, so that what is installed can be read in one place.
extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/type.sql", name = "type", requires = ["schema"]);
extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["type"]);
extension_sql_file!("../sql/casts.sql", name = "casts", requires = ["functions"]);
extension_sql_file!("../sql/search.sql", name = "search", requires = ["casts"]);
extension_sql_file!("../sql/catalog.sql", name = "catalog", requires = ["search"]);
extension_sql_file!("../sql/audit.sql", name = "audit", requires = ["catalog"]);
extension_sql_file!("../sql/key_admin.sql", name = "key_admin", requires = ["audit"]);
extension_sql_file!("../sql/jobs/tables.sql", name = "jobs_tables", requires = ["key_admin"]);
extension_sql_file!("../sql/jobs/workers.sql", name = "jobs_workers", requires = ["jobs_tables"]);
extension_sql_file!("../sql/jobs/plan.sql", name = "jobs_plan", requires = ["jobs_workers"]);
extension_sql_file!("../sql/jobs/start.sql", name = "jobs_start", requires = ["jobs_plan"]);
extension_sql_file!("../sql/jobs/limits.sql", name = "jobs_limits", requires = ["jobs_start"]);
extension_sql_file!("../sql/jobs/failures.sql", name = "jobs_failures", requires = ["jobs_limits"]);
extension_sql_file!("../sql/jobs/steps.sql", name = "jobs_steps", requires = ["jobs_failures"]);
extension_sql_file!("../sql/jobs/records.sql", name = "jobs_records", requires = ["jobs_steps"]);
extension_sql_file!("../sql/jobs/session.sql", name = "jobs_session", requires = ["jobs_records"]);
extension_sql_file!("../sql/jobs/run.sql", name = "jobs_run", requires = ["jobs_session"]);
extension_sql_file!("../sql/jobs/work.sql", name = "jobs_work", requires = ["jobs_run"]);
extension_sql_file!("../sql/jobs/control.sql", name = "jobs_control", requires = ["jobs_work"]);
extension_sql_file!("../sql/jobs/progress.sql", name = "jobs_progress", requires = ["jobs_control"]);
extension_sql_file!("../sql/rotation/values.sql", name = "rotation_values", requires = ["jobs_progress"]);
extension_sql_file!("../sql/rotation/targets.sql", name = "rotation_targets", requires = ["rotation_values"]);
extension_sql_file!("../sql/rotation/changes.sql", name = "rotation_changes", requires = ["rotation_targets"]);
extension_sql_file!("../sql/rotation/rotate.sql", name = "rotation_rotate", requires = ["rotation_changes"]);
extension_sql_file!("../sql/rotation/due.sql", name = "rotation_due", requires = ["rotation_rotate"]);
extension_sql_file!("../sql/census.sql", name = "census", requires = ["rotation_due"]);
extension_sql_file!("../sql/key_end.sql", name = "key_end", requires = ["census"]);
extension_sql_file!("../sql/index_renewal.sql", name = "index_renewal", requires = ["key_end"]);
extension_sql_file!("../sql/index_key.sql", name = "index_key", requires = ["index_renewal"]);
extension_sql_file!("../sql/carried.sql", name = "carried", requires = ["index_key"]);
extension_sql_file!("../sql/table_locks.sql", name = "table_locks", requires = ["carried"]);
extension_sql_file!("../sql/key_arrival.sql", name = "key_arrival", requires = ["table_locks"]);
extension_sql_file!("../sql/replicated_rows.sql", name = "replicated_rows", requires = ["key_arrival"]);
extension_sql_file!("../sql/key_rows.sql", name = "key_rows", requires = ["replicated_rows"]);
extension_sql_file!("../sql/rotation/plan_rotation.sql", name = "plan_rotation", requires = ["key_rows"]);
extension_sql_file!("../sql/access.sql", name = "access", requires = ["plan_rotation"]);
extension_sql_file!("../sql/grants.sql", name = "grants", requires = ["access"]);
extension_sql_file!("../sql/privileges.sql", name = "privileges", requires = ["grants"], finalize);

#[cfg(any(test, feature = "pg_test"))]
mod tests;

/// What `cargo pgrx test` asks for.
#[cfg(test)]
pub mod pg_test {
    /// Called once before the tests.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the server that the tests run on.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'prism_crypt'"]
    }
}
