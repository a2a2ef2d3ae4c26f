//! Sealed constants in plans: they are of the keyset and the key that were current when the plan was made. Plans that hold
//! some depend on a function of this extension, the mark (`query_constants::mark`), as if it were called in them: they alone are made
//! anew when keyset or key change.

use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LAST_AT: Cell<i64> = const { Cell::new(0) };
    static IN_PLANS: Cell<Marked> = const { Cell::new(Marked::None) };
}

/// How the plans are known that hold constants.
#[derive(Clone, Copy)]
enum Marked {
    /// There are none.
    None,
    /// They depend on the function with this hash of its oid.
    By(u32),
    /// They are not: there is no such function.
    Unknown,
}

unsafe extern "C-unwind" {
    // pgrx's own bindings set up an error boundary: a callback must not leave it, and an input function has no time for it.
    #[link_name = "ResetPlanCache"]
    fn reset_plan_cache();
    #[link_name = "CallSyscacheCallbacks"]
    fn call_syscache_callbacks(cache: c_int, hash: u32);
    fn GetCurrentStatementStartTimestamp() -> i64;
}

/// When the message of the client that is being answered came.
#[inline]
pub fn statement_start() -> i64 {
    // SAFETY: reads a variable of this session.
    unsafe { GetCurrentStatementStartTimestamp() }
}

/// Remembers that a value was sealed that may be the constant of a plan.
#[inline]
pub fn note_constant() {
    COUNT.set(COUNT.get() + 1);
    LAST_AT.set(statement_start());
}

/// How many such values this session has sealed.
pub fn constants_sealed() -> u64 {
    COUNT.get()
}

/// Whether the message of the client that is being answered has sealed any: a literal that is sealed is in the statement
/// that is being analysed, whatever else is run meanwhile.
#[inline]
pub fn may_have_sealed_literals() -> bool {
    COUNT.get() > 0 && LAST_AT.get() == statement_start()
}

/// A plan, or a statement that plans are made from, holds sealed constants. It depends on the function with this hash; `None`:
/// there is no function that it could depend on.
pub fn constants_are_in_plans(mark: Option<u32>) {
    IN_PLANS.set(match (mark, IN_PLANS.get()) {
        (Some(hash), Marked::None | Marked::By(_)) => Marked::By(hash),
        _ => Marked::Unknown,
    });
}

/// Has the plans of this session made anew that hold sealed constants: those are of the keyset and the key of before.
pub fn forget_constants() {
    // SAFETY: both mark plans as outdated, as PostgreSQL itself does whenever a function or an operator changes, and look
    // nothing up.
    unsafe {
        match IN_PLANS.replace(Marked::None) {
            Marked::None => {}
            Marked::By(hash) => call_syscache_callbacks(pg_sys::SysCacheIdentifier::PROCOID as c_int, hash),
            Marked::Unknown => reset_plan_cache(),
        }
    }
}
