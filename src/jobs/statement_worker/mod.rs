//! Runs a statement that commits by itself, such as CREATE INDEX CONCURRENTLY, for a procedure, in which PostgreSQL refuses it.
//!
//! A background worker runs it at top level, with the rights of the role that asks. `kind` says which statements, `segment` is the
//! memory that a session and its worker share, and `worker` the worker's process. The session asks again and again whether it is over,
//! and commits in between, since such a statement waits for older transactions. An error, a cancel or the end of the session also ends
//! the worker: what nobody waits for must not go on unnoticed.

mod kind;
mod segment;
mod worker;

use crate::datum::{Text, TextResult};
use crate::error::{Error, SqlResult};
use crate::identity::{Identity, outer_role};
use crate::sqlstate::unpacked;
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use segment::{Ending, Outcome, Segment, Setting, Task};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null_mut;

/// What a worker has from its session, beside its roles.
const INHERITED: [&CStr; 4] =
    [c"lock_timeout", c"maintenance_work_mem", c"max_parallel_maintenance_workers", c"default_tablespace"];

#[derive(Clone, Copy)]
struct Running {
    worker: *mut pg_sys::BackgroundWorkerHandle,
    segment: Segment,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// `prism_crypt._start_statement(statement text)`: has a worker run it, with the current role and some settings of this session.
/// One at a time.
#[pg_extern(sql = false)]
fn _start_statement(statement: Text<'_>) -> SqlResult<()> {
    if RUNNING.get().is_some() {
        return Err(Error::StatementRunning.into());
    }
    // A worker is what the session is. What runs with the rights of another role than that can't have one, and what must not change
    // the session's state must not leave it either.
    let identity = Identity::current();
    if identity.is_lent() || identity.role != outer_role() {
        return Err(Error::StatementOfOther.into());
    }
    let statement = c_string(statement.0.bytes())?;
    // SAFETY: on a standby it raises an error; the text is terminated. Both hold what unwinds.
    let is_allowed = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"CREATE INDEX CONCURRENTLY".as_ptr());
        !kind::only_statement(pg_sys::pg_parse_query(statement.as_ptr())).is_null()
    };
    if !is_allowed {
        return Err(Error::StatementKind.into());
    }
    let (task, settings) = task(identity);
    listen();
    let segment = Segment::create(task, &statement, &settings)?;
    let worker = register(segment, task.process)?;
    segment.keep();
    RUNNING.set(Some(Running { worker, segment }));
    Ok(())
}

/// What the worker is to be, and what it is to set, in this order: SET SESSION AUTHORIZATION resets the role.
fn task(identity: Identity) -> (Task, Vec<Setting>) {
    // SAFETY: reads variables of this session. A session's roles exist, or their names can't be found and that is an error. Values of
    // settings are copied before the next one is asked for.
    unsafe {
        let task = Task {
            database: pg_sys::MyDatabaseId,
            authenticated: pg_sys::GetAuthenticatedUserId(),
            session: pg_sys::GetSessionUserId(),
            current: identity.role,
            process: pg_sys::MyProcPid,
        };
        let name_of = |role| copied(pg_sys::GetUserNameFromId(role, false));
        let role = match pg_sys::GetCurrentRoleId() {
            pg_sys::InvalidOid => c"none".to_owned(),
            role => name_of(role),
        };
        let mut settings = vec![(c"session_authorization", name_of(task.session)), (c"role", role)];
        for name in INHERITED {
            settings.push((name, copied(pg_sys::GetConfigOption(name.as_ptr(), false, false))));
        }
        (task, settings)
    }
}

/// # Safety
/// `text` is null or terminated.
unsafe fn copied(text: *const c_char) -> CString {
    if text.is_null() {
        return CString::default();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_owned()
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::Internal("a text has a zero byte"))
}

/// Registers a worker; without a free one, the segment ends with the statement.
fn register(segment: Segment, process: i32) -> Result<*mut pg_sys::BackgroundWorkerHandle, Error> {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int,
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        bgw_restart_time: pg_sys::BGW_NEVER_RESTART,
        bgw_main_arg: pg_sys::Datum::from(segment.handle()),
        bgw_notify_pid: process,
        ..Default::default()
    };
    let name = c_string(format!("prism_crypt statement of process {process}").as_bytes())?;
    put(&mut worker.bgw_name, &name);
    put(&mut worker.bgw_type, c"prism_crypt statement");
    // As in the control file.
    put(&mut worker.bgw_library_name, c"$libdir/prism_crypt");
    put(&mut worker.bgw_function_name, c"prism_crypt_statement_main");
    let mut handle = null_mut();
    // SAFETY: every field is set or zero. The handle is allocated in memory that lives as long as the session.
    let is_registered = unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext;
        let is_registered = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::CurrentMemoryContext = memory;
        is_registered
    };
    if is_registered { Ok(handle) } else { Err(Error::NoWorker) }
}

/// Writes a text that fits, with zeros after it.
fn put<const N: usize>(field: &mut [c_char; N], text: &CStr) {
    for (to, from) in field.iter_mut().take(N - 1).zip(text.to_bytes()) {
        *to = *from as c_char;
    }
}

type Row = (
    name!(is_over, bool),
    name!(code, Option<TextResult>),
    name!(message, Option<TextResult>),
    name!(detail, Option<TextResult>),
    name!(hint, Option<TextResult>),
);

/// `prism_crypt._statement_result() → table(is_over boolean, code text, message text, detail text, hint text)`: one row, without
/// waiting. Once it is over, what is known of the statement is forgotten; a null code means that it succeeded.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it, and sees through no alias")]
fn _statement_result() -> Result<
    TableIterator<
        'static,
        (
            name!(is_over, bool),
            name!(code, Option<TextResult>),
            name!(message, Option<TextResult>),
            name!(detail, Option<TextResult>),
            name!(hint, Option<TextResult>),
        ),
    >,
    ErrorReport,
> {
    let running = RUNNING.get().ok_or(Error::NoStatement)?;
    let mut process = 0;
    // SAFETY: a worker of this session.
    let status = unsafe { pg_sys::GetBackgroundWorkerPid(running.worker, &mut process) };
    use pg_sys::BgwHandleStatus::{BGWH_NOT_YET_STARTED, BGWH_STARTED};
    if matches!(status, BGWH_STARTED | BGWH_NOT_YET_STARTED) {
        return Ok(TableIterator::once((false, None, None, None, None)));
    }
    // SAFETY: the worker has ended.
    let outcome = unsafe { running.segment.outcome() };
    forget();
    let row = match outcome.ending {
        Ending::Done => (true, None, None, None, None),
        Ending::Failed => row_of(&outcome)?,
        Ending::None => row_of(&Outcome::failed(&Error::StatementLost))?,
    };
    Ok(TableIterator::once(row))
}

fn row_of(outcome: &Outcome) -> Result<Row, Error> {
    let text = |text: Option<&[u8]>| text.map(Varlena::copy_of).transpose().map(|text| text.map(TextResult));
    let code = unpacked(outcome.code);
    let code = text(Some(&code))?;
    let message = text(outcome.message.bytes())?;
    Ok((true, code, message, text(outcome.detail.bytes())?, text(outcome.hint.bytes())?))
}

/// `prism_crypt._stop_statement()`: ends the worker, if there is one, and waits for its end.
#[pg_extern(sql = false)]
fn _stop_statement() {
    if let Some(running) = RUNNING.get() {
        // SAFETY: a worker of this session. A cancel of the wait is an error, and ends the worker all the same.
        unsafe {
            pg_sys::TerminateBackgroundWorker(running.worker);
            pg_sys::WaitForBackgroundWorkerShutdown(running.worker);
        }
        forget();
    }
}

/// Forgets the statement; its worker ends by itself.
fn forget() {
    if let Some(running) = RUNNING.take() {
        // SAFETY: nothing else refers to either.
        unsafe {
            running.segment.detach();
            pg_sys::pfree(running.worker.cast::<c_void>());
        }
    }
}

fn stop() {
    if let Some(running) = RUNNING.get() {
        // SAFETY: a worker of this session; this only tells the postmaster.
        unsafe { pg_sys::TerminateBackgroundWorker(running.worker) };
        forget();
    }
}

fn listen() {
    if !LISTENING.replace(true) {
        // SAFETY: registered once per backend; the callbacks live as long as the library.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_ended), null_mut());
            pg_sys::before_shmem_exit(Some(session_ends), pg_sys::Datum::null());
        }
    }
}

/// The session commits while it waits. So an abort is an error, a cancel, or the wish to give up.
#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_ABORT {
        stop();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn session_ends(_code: c_int, _argument: pg_sys::Datum) {
    stop();
}
