//! The process that runs one statement.
//!
//! Whose rights it has: it connects as the role that the session connected as, and becomes what the session is with SET SESSION
//! AUTHORIZATION and SET ROLE, which check that it may. So whatever the functions of an index do, on any version of PostgreSQL, there
//! is no way to a role that the session's own statements would not have. (A worker that connects as no role is the first superuser,
//! and could always go back: RESET SESSION AUTHORIZATION asks whom the process connected as. As a role without LOGIN it can't connect
//! before PostgreSQL 17.) And as in any session, functions of an index run as the owner of the table, and can't set a role.

use super::kind;
use super::segment::{Ending, Outcome, Segment, Text};
use crate::error::{Error, postgres_string};
use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::prelude::*;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::{from_ref, null, null_mut};

/// What every worker sets, after what it has from its session. Errors show values as ciphertext, and no time limit ends a build.
const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"prism_crypt.output", c"ciphertext"),
    (c"statement_timeout", c"0"),
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    (c"transaction_timeout", c"0"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_deferrable", c"off"),
    (c"default_transaction_read_only", c"off"),
];

unsafe extern "C-unwind" {
    // pgrx's own bindings would catch errors and raise them again with less detail, and not in the server encoding.
    fn StartTransactionCommand();
    fn CommitTransactionCommand();
    fn GetTransactionSnapshot() -> pg_sys::Snapshot;
    fn PushActiveSnapshot(snapshot: pg_sys::Snapshot);
    fn PopActiveSnapshot();
    fn ActiveSnapshotSet() -> bool;
    fn pg_parse_query(text: *const c_char) -> *mut pg_sys::List;
    #[allow(clippy::too_many_arguments, reason = "the signature is PostgreSQL's")]
    fn set_config_option(
        name: *const c_char,
        value: *const c_char,
        context: pg_sys::GucContext::Type,
        source: pg_sys::GucSource::Type,
        action: pg_sys::GucAction::Type,
        change: bool,
        level: c_int,
        is_reload: bool,
    ) -> c_int;
    #[allow(clippy::too_many_arguments, reason = "the signature is PostgreSQL's")]
    fn ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        query_env: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    fn CopyErrorData() -> *mut pg_sys::ErrorData;
    fn FlushErrorState();
    /// PostgreSQL's handler of SIGTERM; the binding is no C function.
    fn die(signal: c_int);
}

/// How [`run`] ends where nothing was raised. PostgreSQL raises 1.
const DONE: c_int = 0;
const OTHER_ROLE: c_int = 2;
const OTHER_KIND: c_int = 3;

/// What is allocated before the statement runs, because that may raise errors.
#[derive(Clone, Copy)]
struct Prepared {
    memory: pg_sys::MemoryContext,
    text: *const c_char,
    statement: *mut pg_sys::PlannedStmt,
    application_name: *const c_char,
}

/// Where the worker begins. The argument is the handle of its session's segment.
///
/// # Safety
/// PostgreSQL calls it in a new background worker, once.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn prism_crypt_statement_main(argument: pg_sys::Datum) {
    // SAFETY: what every background worker does first; then there is a database, no transaction, and no resource owner that would
    // unmap the segment.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as c_int, Some(die));
        pg_sys::BackgroundWorkerUnblockSignals();
        // If the session is gone, or did not want to wait, there is nothing to do.
        let Some(segment) = Segment::attach(argument.value() as pg_sys::dsm_handle) else { return };
        let task = segment.task();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(task.database, task.authenticated, 0);
        let outcome = caught(segment, prepare(segment));
        pg_sys::debug_query_string = null();
        segment.end(&outcome);
    }
}

/// # Safety
/// In a worker that is connected.
unsafe fn prepare(segment: Segment) -> Prepared {
    // SAFETY: memory that lives until the process ends, longer than the segment. The transactions of the statement don't free it; it
    // is also the memory of the portal that there would be in a session.
    unsafe {
        let memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"prism_crypt statement".as_ptr(),
            0,
            8 * 1024,
            8 * 1024 * 1024,
        );
        pg_sys::CurrentMemoryContext = memory;
        pg_sys::PortalContext = memory;
        let text = pg_sys::pstrdup(segment.statement());
        let statement = pg_sys::palloc0(size_of::<pg_sys::PlannedStmt>()).cast::<pg_sys::PlannedStmt>();
        (*statement).type_ = pg_sys::NodeTag::T_PlannedStmt;
        (*statement).commandType = pg_sys::CmdType::CMD_UTILITY;
        (*statement).canSetTag = true;
        let application_name =
            postgres_string(&format!("prism_crypt statement of process {}", segment.task().process));
        pg_sys::debug_query_string = text;
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text);
        pg_sys::SetCurrentStatementStartTimestamp();
        Prepared { memory, text, statement, application_name }
    }
}

/// Runs the statement, and gives what it raised as its outcome. This is PostgreSQL's PG_TRY.
///
/// # Safety
/// In a worker that is connected, outside of a transaction.
unsafe fn caught(segment: Segment, prepared: Prepared) -> Outcome {
    // SAFETY: errors jump to the buffer only while this frame exists: both stacks are restored before it ends. Nothing is read after
    // the second return of sigsetjmp that is changed between its two returns, and nothing is held that must be dropped.
    unsafe {
        let (handler, contexts) = (pg_sys::PG_exception_stack, pg_sys::error_context_stack);
        let ended = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = from_ref::<SigJmpBufFields>(buffer).cast_mut().cast();
            run(segment, prepared)
        });
        (pg_sys::PG_exception_stack, pg_sys::error_context_stack) = (handler, contexts);
        match ended {
            DONE => Outcome::of(Ending::Done),
            OTHER_ROLE => Outcome::failed(&Error::Internal("a worker has another role than its session")),
            OTHER_KIND => Outcome::failed(&Error::StatementKind),
            _ => {
                pg_sys::CurrentMemoryContext = prepared.memory;
                let error = &*CopyErrorData();
                FlushErrorState();
                let outcome = Outcome {
                    ending: Ending::Failed,
                    code: error.sqlerrcode,
                    message: Text::of(error.message),
                    detail: Text::of(error.detail),
                    hint: Text::of(error.hint),
                };
                pg_sys::AbortCurrentTransaction();
                outcome
            }
        }
    }
}

/// Becomes what the session is, and runs the statement as PostgreSQL runs those of clients. Not guarded, and holds nothing to drop.
///
/// # Safety
/// As for [`caught`].
unsafe fn run(segment: Segment, prepared: Prepared) -> c_int {
    // SAFETY: settings are set in a transaction of their own, before anything else runs. The statement was parsed into memory that
    // outlives its transactions, and gets a snapshot, which it pops itself where it commits.
    unsafe {
        StartTransactionCommand();
        let mut at = 0;
        while let Some((name, value)) = segment.setting(at) {
            set(name, value);
            at += 1;
        }
        for (name, value) in SETTINGS {
            set(name.as_ptr(), value.as_ptr());
        }
        set(c"application_name".as_ptr(), prepared.application_name);
        CommitTransactionCommand();
        // A role may have been renamed since, and another one have its name.
        let task = segment.task();
        if pg_sys::GetSessionUserId() != task.session || pg_sys::GetUserId() != task.current {
            return OTHER_ROLE;
        }

        pg_sys::CurrentMemoryContext = prepared.memory;
        let parsed = kind::only_statement(pg_parse_query(prepared.text));
        if parsed.is_null() {
            return OTHER_KIND;
        }
        let statement = &mut *prepared.statement;
        statement.utilityStmt = (*parsed).stmt;
        statement.stmt_location = (*parsed).stmt_location;
        statement.stmt_len = (*parsed).stmt_len;

        StartTransactionCommand();
        pg_sys::CurrentMemoryContext = prepared.memory;
        PushActiveSnapshot(GetTransactionSnapshot());
        let mut completion = pg_sys::QueryCompletion::default();
        ProcessUtility(
            prepared.statement,
            prepared.text,
            false,
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL,
            null_mut(),
            null_mut(),
            pg_sys::None_Receiver,
            &mut completion,
        );
        if ActiveSnapshotSet() {
            PopActiveSnapshot();
        }
        CommitTransactionCommand();
        DONE
    }
}

/// Sets a setting until the end of the process, with the rights of the role, as SET does.
///
/// # Safety
/// Inside a transaction; both are terminated.
unsafe fn set(name: *const c_char, value: *const c_char) {
    // SAFETY: as promised by the caller; PostgreSQL copies the value.
    unsafe {
        set_config_option(
            name,
            value,
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            0,
            false,
        );
    }
}
