//! The files of `sql/` that `CREATE EXTENSION` runs, in this order. They are written by hand, so that everything installed can
//! be read in one place. A file uses only what earlier files create; `make test-structure` checks that. pgrx orders them by
//! `requires`.

use pgrx::prelude::*;

extension_sql_file!("../sql/keys/tables.sql", name = "keys_tables", bootstrap);
extension_sql_file!("../sql/type/type.sql", name = "type", requires = ["keys_tables"]);
extension_sql_file!("../sql/functions/functions.sql", name = "functions_functions", requires = ["type"]);
extension_sql_file!("../sql/type/casts.sql", name = "type_casts", requires = ["functions_functions"]);
extension_sql_file!("../sql/search/operators.sql", name = "search_operators", requires = ["type_casts"]);
extension_sql_file!("../sql/search/arrays.sql", name = "search_arrays", requires = ["search_operators"]);
extension_sql_file!(
    "../sql/catalog/encrypted_columns.sql",
    name = "encrypted_columns",
    requires = ["search_arrays"]
);
extension_sql_file!("../sql/audit/audit.sql", name = "audit_audit", requires = ["encrypted_columns"]);
extension_sql_file!("../sql/keys/carried.sql", name = "keys_carried", requires = ["audit_audit"]);
extension_sql_file!("../sql/keys/admin.sql", name = "keys_admin", requires = ["keys_carried"]);
extension_sql_file!("../sql/jobs/tables.sql", name = "jobs_tables", requires = ["keys_admin"]);
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
extension_sql_file!("../sql/jobs/statement.sql", name = "jobs_statement", requires = ["jobs_control"]);
extension_sql_file!("../sql/files/progress.sql", name = "files_progress", requires = ["jobs_statement"]);
extension_sql_file!("../sql/jobs/progress.sql", name = "jobs_progress", requires = ["files_progress"]);
extension_sql_file!("../sql/rotation/values.sql", name = "rotation_values", requires = ["jobs_progress"]);
extension_sql_file!("../sql/rotation/targets.sql", name = "rotation_targets", requires = ["rotation_values"]);
extension_sql_file!(
    "../sql/rotation/changes.sql",
    name = "rotation_changes",
    requires = ["rotation_targets"]
);
extension_sql_file!("../sql/rotation/rotate.sql", name = "rotation_rotate", requires = ["rotation_changes"]);
extension_sql_file!("../sql/rotation/due.sql", name = "rotation_due", requires = ["rotation_rotate"]);
extension_sql_file!("../sql/census/census.sql", name = "census_census", requires = ["rotation_due"]);
extension_sql_file!("../sql/search/indexes.sql", name = "search_indexes", requires = ["census_census"]);
extension_sql_file!(
    "../sql/search/index_renewal.sql",
    name = "search_index_renewal",
    requires = ["search_indexes"]
);
extension_sql_file!(
    "../sql/search/table_locks.sql",
    name = "search_table_locks",
    requires = ["search_index_renewal"]
);
extension_sql_file!(
    "../sql/search/index_key.sql",
    name = "search_index_key",
    requires = ["search_table_locks"]
);
extension_sql_file!("../sql/keys/end.sql", name = "keys_end", requires = ["search_index_key"]);
extension_sql_file!("../sql/keys/arrival.sql", name = "keys_arrival", requires = ["keys_end"]);
extension_sql_file!(
    "../sql/keys/replicated_rows.sql",
    name = "keys_replicated_rows",
    requires = ["keys_arrival"]
);
extension_sql_file!("../sql/keys/rows.sql", name = "keys_rows", requires = ["keys_replicated_rows"]);
extension_sql_file!(
    "../sql/rotation/plan_rotation.sql",
    name = "rotation_plan_rotation",
    requires = ["keys_rows"]
);
extension_sql_file!(
    "../sql/migration/names.sql",
    name = "migration_names",
    requires = ["rotation_plan_rotation"]
);
extension_sql_file!(
    "../sql/migration/definitions.sql",
    name = "migration_definitions",
    requires = ["migration_names"]
);
extension_sql_file!(
    "../sql/migration/views.sql",
    name = "migration_views",
    requires = ["migration_definitions"]
);
extension_sql_file!(
    "../sql/migration/expressions.sql",
    name = "migration_expressions",
    requires = ["migration_views"]
);
extension_sql_file!(
    "../sql/migration/column.sql",
    name = "migration_column",
    requires = ["migration_expressions"]
);
extension_sql_file!(
    "../sql/migration/indexes.sql",
    name = "migration_indexes",
    requires = ["migration_column"]
);
extension_sql_file!("../sql/migration/twins.sql", name = "migration_twins", requires = ["migration_indexes"]);
extension_sql_file!(
    "../sql/migration/dependants.sql",
    name = "migration_dependants",
    requires = ["migration_twins"]
);
extension_sql_file!(
    "../sql/migration/targets.sql",
    name = "migration_targets",
    requires = ["migration_dependants"]
);
extension_sql_file!(
    "../sql/migration/sample.sql",
    name = "migration_sample",
    requires = ["migration_targets"]
);
extension_sql_file!(
    "../sql/migration/blocks.sql",
    name = "migration_blocks",
    requires = ["migration_sample"]
);
extension_sql_file!(
    "../sql/migration/values.sql",
    name = "migration_values",
    requires = ["migration_blocks"]
);
extension_sql_file!(
    "../sql/migration/tables.sql",
    name = "migration_tables",
    requires = ["migration_values"]
);
extension_sql_file!(
    "../sql/migration/records.sql",
    name = "migration_records",
    requires = ["migration_tables"]
);
extension_sql_file!("../sql/migration/jobs.sql", name = "migration_jobs", requires = ["migration_records"]);
extension_sql_file!("../sql/migration/twin.sql", name = "migration_twin", requires = ["migration_jobs"]);
extension_sql_file!(
    "../sql/migration/closing.sql",
    name = "migration_closing",
    requires = ["migration_twin"]
);
extension_sql_file!("../sql/migration/build.sql", name = "migration_build", requires = ["migration_closing"]);
extension_sql_file!("../sql/migration/end.sql", name = "migration_end", requires = ["migration_build"]);
extension_sql_file!(
    "../sql/migration/cut_over.sql",
    name = "migration_cut_over",
    requires = ["migration_end"]
);
extension_sql_file!(
    "../sql/migration/rewrite.sql",
    name = "migration_rewrite",
    requires = ["migration_cut_over"]
);
extension_sql_file!(
    "../sql/migration/phases.sql",
    name = "migration_phases",
    requires = ["migration_rewrite"]
);
extension_sql_file!(
    "../sql/migration/advance.sql",
    name = "migration_advance",
    requires = ["migration_phases"]
);
extension_sql_file!(
    "../sql/migration/dry_run.sql",
    name = "migration_dry_run",
    requires = ["migration_advance"]
);
extension_sql_file!(
    "../sql/migration/remains.sql",
    name = "migration_remains",
    requires = ["migration_dry_run"]
);
extension_sql_file!(
    "../sql/migration/checks.sql",
    name = "migration_checks",
    requires = ["migration_remains"]
);
extension_sql_file!(
    "../sql/migration/migrate.sql",
    name = "migration_migrate",
    requires = ["migration_checks"]
);
extension_sql_file!(
    "../sql/migration/migrations.sql",
    name = "migration_migrations",
    requires = ["migration_migrate"]
);
extension_sql_file!(
    "../sql/migration/find_plaintext.sql",
    name = "migration_find_plaintext",
    requires = ["migration_migrations"]
);
extension_sql_file!(
    "../sql/files/definition.sql",
    name = "files_definition",
    requires = ["migration_find_plaintext"]
);
extension_sql_file!("../sql/files/export.sql", name = "files_export", requires = ["files_definition"]);
extension_sql_file!("../sql/files/trust.sql", name = "files_trust", requires = ["files_export"]);
extension_sql_file!("../sql/files/import.sql", name = "files_import", requires = ["files_trust"]);
extension_sql_file!("../sql/access/access.sql", name = "access_access", requires = ["files_import"]);
extension_sql_file!("../sql/migration/readers.sql", name = "migration_readers", requires = ["access_access"]);
extension_sql_file!("../sql/migration/plan.sql", name = "migration_plan", requires = ["migration_readers"]);
extension_sql_file!(
    "../sql/migration/explain.sql",
    name = "migration_explain",
    requires = ["migration_plan"]
);
extension_sql_file!("../sql/access/grants.sql", name = "access_grants", requires = ["migration_explain"]);
extension_sql_file!(
    "../sql/access/privileges.sql",
    name = "access_privileges",
    requires = ["access_grants"],
    finalize
);
