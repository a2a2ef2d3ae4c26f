//! PostgreSQL calls the hook of the log only for messages that are logged, and the client may be sent others: so while the
//! hook has something to withhold, all that is sent is passed by it, and it stops there what is not to be logged.

use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    /// `log_min_messages` as the session has it, while it is lowered.
    static ASKED_FOR: Cell<Option<i32>> = const { Cell::new(None) };
}

/// What has to be undone.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Raised {
    /// 0 where nothing was changed.
    nest_level: i32,
    asked_for: i32,
}

/// Has the hook called for all that the client is sent.
///
/// # Safety
/// Inside a transaction.
#[pg_guard]
pub unsafe extern "C-unwind" fn raise() -> Raised {
    // SAFETY: globals, and a setting that every session has. What is not undone is when the transaction is rolled back.
    unsafe {
        let (asked_for, client) = (pg_sys::log_min_messages, pg_sys::client_min_messages);
        if ASKED_FOR.get().is_some() || is_logged(client.min(pg_sys::INFO as i32), asked_for) {
            return Raised { nest_level: 0, asked_for };
        }
        // Below every level but those that the client asks for.
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

/// Undoes it.
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

/// The rollback sets the level back; this forgets it, and whether an error is logged is as it was asked for.
pub fn after_error(raised: Raised, error: &mut pg_sys::ErrorData) {
    if raised.nest_level > 0 {
        ASKED_FOR.set(None);
        error.output_to_server = is_logged(error.elevel, raised.asked_for);
    }
}

/// Whether a message is only here to be looked at.
pub fn is_for_the_client_only(error: &pg_sys::ErrorData) -> bool {
    ASKED_FOR.get().is_some_and(|level| !is_logged(error.elevel, level))
}

/// As PostgreSQL decides it.
fn is_logged(level: i32, least: i32) -> bool {
    const LOG: i32 = pg_sys::LOG as i32;
    const LOG_SERVER_ONLY: i32 = pg_sys::LOG_SERVER_ONLY as i32;
    match (level, least) {
        (LOG | LOG_SERVER_ONLY, _) => least == LOG || least <= pg_sys::PGERROR as i32,
        (_, LOG) => level >= pg_sys::FATAL as i32,
        _ => level >= least,
    }
}
