//! The caller of a SECURITY DEFINER function.
//!
//! Inside such a function PostgreSQL gives its owner, the session user and the role of `SET ROLE`, but not the caller, which may
//! be somebody else's trigger or index expression. So an argument of the call notes the current user, which is still the caller
//! then. The note has a number, and is valid once, for the function that gets the number.

use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

thread_local! {
    static NOTED: Cell<Option<(i64, pg_sys::Oid)>> = const { Cell::new(None) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// `prism_crypt._note_caller() → bigint`: notes the current role under a number that nobody can guess.
#[pg_extern(sql = false)]
fn _note_caller() -> SqlResult<i64> {
    listen();
    let mut number = [0; 8];
    // SAFETY: writes that many bytes.
    if !unsafe { pg_sys::pg_strong_random(number.as_mut_ptr().cast(), number.len()) } {
        return Err(Error::Randomness.into());
    }
    let number = i64::from_ne_bytes(number);
    // SAFETY: reads a variable of this session.
    NOTED.set(Some((number, unsafe { pg_sys::GetUserId() })));
    Ok(number)
}

/// `prism_crypt._caller(note bigint) → oid`: the role that was noted under this number, if it is the latest note and was made in
/// this subtransaction.
#[pg_extern(sql = false)]
fn _caller(note: Option<i64>) -> SqlResult<pg_sys::Oid> {
    match NOTED.take() {
        Some((number, role)) if note == Some(number) => Ok(role),
        _ => Err(Error::UnknownCaller.into()),
    }
}

fn listen() {
    if !LISTENING.replace(true) {
        // SAFETY: registered once per backend; the callbacks live as long as the library.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_ended), null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_changed), null_mut());
        }
    }
}

/// Needs no guard: it calls nothing that can panic.
unsafe extern "C-unwind" fn transaction_ended(_event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    forget();
}

/// Called when a subtransaction starts, commits or aborts. Needs no guard: it calls nothing that can panic.
unsafe extern "C-unwind" fn subtransaction_changed(
    _event: pg_sys::SubXactEvent::Type,
    _this: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    forget();
}

fn forget() {
    let _ = NOTED.try_with(|noted| noted.set(None));
}
