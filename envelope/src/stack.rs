//! Keeps keys off the stack.
//!
//! Expanding a key, or moving the result, leaves copies in stack frames that are no longer used. So everything derived from a
//! key lives in a box, and the code that makes it runs under [`wiping`]. `tests/residue.rs` searches the stack after each of
//! these calls.
//!
//! What that test covers holds for the builds it runs in; nothing more is promised. How deep frames go is up to the compiler,
//! and registers are not wiped. Sealing, opening and searching pay nothing for this: AES and HMAC may leave parts of their
//! keys in dead frames for each value. Those keys are in memory then anyway, and dropping one also wipes the stack that was
//! used from about the same depth.

use std::ops::Deref;
use zeroize::zeroize_stack;

/// How far down the stack is wiped, in bytes. The deepest of the calls needs 21 KiB without optimisation and 5 KiB with it, as
/// measured.
const DEPTH: usize = 32 << 10;

/// Runs `work` and wipes the stack that it used. Its result is returned by moves, so it must not itself be a secret, but may
/// point to one.
pub(crate) fn wiping<T>(work: impl FnOnce() -> T) -> T {
    let result = below(work);
    zeroize_stack::<DEPTH>();
    result
}

/// Runs `work` in its own frame, below that of the caller, where the wiping begins.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Something derived from a key, which wipes itself when dropped and never moves in memory.
pub(crate) struct InPlace<T>(Box<T>);

impl<T> InPlace<T> {
    pub(crate) fn new(make: impl FnOnce() -> T) -> Self {
        wiping(|| Self(Box::new(make())))
    }
}

impl<T> Deref for InPlace<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for InPlace<T> {
    fn drop(&mut self) {
        zeroize_stack::<DEPTH>();
    }
}
