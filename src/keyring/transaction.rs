//! The end of transactions: nonces that were fetched for one are never used in another.

use super::KEYRING;
use pgrx::pg_sys;
use prism_envelope::NonceOwner;
use std::cell::Cell;

thread_local! {
    /// Counts the transactions of this backend. 0: the callback is not registered yet.
    static TRANSACTION: Cell<u64> = const { Cell::new(0) };
}

/// The owner of nonces that are fetched now.
#[inline]
pub fn nonce_owner() -> NonceOwner {
    if TRANSACTION.get() == 0 {
        listen();
    }
    // SAFETY: a global that only this process writes. It is up to date after a fork, and costs no system call.
    NonceOwner { process_id: unsafe { pg_sys::MyProcPid.cast_unsigned() }, transaction: TRANSACTION.get() }
}

#[cold]
fn listen() {
    // SAFETY: registered once per backend, and the callback lives as long as the library.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut()) }
    TRANSACTION.set(1);
}

/// Called before and after each commit and PREPARE, and at each abort, also in parallel workers: any of these may be
/// the end. Not guarded: nothing that it calls can panic or raise an error.
unsafe extern "C-unwind" fn transaction_ended(
    _event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    // If the keyring is in use, the number alone keeps the nonces from being used again.
    TRANSACTION.set(TRANSACTION.get().wrapping_add(1).max(1));
    let _ = KEYRING.try_with(|keyring| {
        if let Ok(mut keyring) = keyring.try_borrow_mut() {
            keyring.wipe_nonces();
        }
    });
}
