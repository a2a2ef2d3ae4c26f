//! PostgreSQL calls the log hook only for messages that are logged, but the client may be sent others. So while the hook has
//! something to withhold, everything that is sent goes through it, and it keeps out of the log what is not to be logged.

use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    /// The session's own `log_min_messages`, while it is lowered.
    static ASKED_FOR: Cell<Option<i32>> = const { Cell::new(None) };
}

/// What [`raise`] changed and [`lower`] undoes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Raised {
    /// 0 if nothing was changed.
    nest_level: i32,
    asked_for: i32,
}

/// Makes PostgreSQL call the hook for everything that the client is sent.
///
/// # Safety
/// Inside a transaction.
#[pg_guard]
pub unsafe extern "C-unwind" fn raise() -> Raised {
    // SAFETY: globals, and a setting that every session has. A rollback of the transaction undoes what `lower` doesn't.
    unsafe {
        let (asked_for, client) = (pg_sys::log_min_messages, pg_sys::client_min_messages);
        // INFO is always sent. LOG is a low level for the client and a high one for the log.
        let (info, log) = (pg_sys::INFO as i32, pg_sys::LOG as i32);
        let lowest = if client == log { info } else { client.min(info) };
        if ASKED_FOR.get().is_some() || is_logged(lowest, asked_for) {
            return Raised { nest_level: 0, asked_for };
        }
        // Low enough for whatever the client is sent: INFO is always sent.
        let value = if client < pg_sys::INFO as i32 { c"debug5" } else { c"info" };
        let nest_level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"log_min_messages".as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        ASKED_FOR.set(Some(asked_for));
        Raised { nest_level, asked_for }
    }
}

/// Undoes [`raise`].
///
/// # Safety
/// In the transaction of [`raise`].
#[pg_guard]
pub unsafe extern "C-unwind" fn lower(raised: Raised) {
    if raised.nest_level > 0 {
        ASKED_FOR.set(None);
        // SAFETY: as promised by the caller.
        unsafe { pg_sys::AtEOXact_GUC(true, raised.nest_level) };
    }
}

/// The rollback restores the level. This forgets it, and has the error logged only if the session's own level asks for it.
pub fn after_error(raised: Raised, error: &mut pg_sys::ErrorData) {
    if raised.nest_level > 0 {
        ASKED_FOR.set(None);
        error.output_to_server = is_logged(error.elevel, raised.asked_for);
    }
}

/// Whether a message is not to be logged, and reaches the hook only because the level is lowered.
pub fn is_for_the_client_only(error: &pg_sys::ErrorData) -> bool {
    ASKED_FOR.get().is_some_and(|level| !is_logged(error.elevel, level))
}

/// As PostgreSQL decides it (`is_log_level_output` in `elog.c`).
fn is_logged(level: i32, least: i32) -> bool {
    const LOG: i32 = pg_sys::LOG as i32;
    const LOG_SERVER_ONLY: i32 = pg_sys::LOG_SERVER_ONLY as i32;
    match (level, least) {
        (LOG | LOG_SERVER_ONLY, _) => least == LOG || least <= pg_sys::PGERROR as i32,
        (_, LOG) => level >= pg_sys::FATAL as i32,
        _ => level >= least,
    }
}
