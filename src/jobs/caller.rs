//! Who calls a function that has its owner's rights.
//!
//! Inside of such a function PostgreSQL tells who owns it, who the session is and what `SET ROLE` said; not who called: that
//! may be a trigger or an index expression of somebody else. So the caller is noted while he is the current user, among the
//! arguments of the call, and what was noted is good for the function that is given the number, once.

use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

thread_local! {
    static NOTED: Cell<Option<(i64, pg_sys::Oid)>> = const { Cell::new(None) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// `prism_crypt._note_caller() → bigint`: remembers the current role, under a number that nobody can guess.
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

/// `prism_crypt._caller(note bigint) → oid`: the role that was noted under this number, last and in this subtransaction.
#[pg_extern(sql = false)]
fn _caller(note: Option<i64>) -> SqlResult<pg_sys::Oid> {
    match NOTED.take() {
        Some((number, role)) if note == Some(number) => Ok(role),
        _ => Err(Error::UnknownCaller.into()),
    }
}

fn listen() {
    if !LISTENING.replace(true) {
        // SAFETY: registered once a backend, and the callbacks live as long as the library.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_ended), null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_changed), null_mut());
        }
    }
}

/// Not guarded: it calls nothing that can panic.
unsafe extern "C-unwind" fn transaction_ended(_event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    forget();
}

/// Called where one begins and where it ends, in whatever way. Not guarded: it calls nothing that can panic.
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
