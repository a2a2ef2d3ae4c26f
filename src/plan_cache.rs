//! Sealed constants in plans. They belong to the keyset and the key that were current when the plan was made. Plans that hold
//! some depend on a function of this extension, the mark (`query_constants::mark`), as if they called it. So only these plans
//! are replanned when the keyset or the key changes.

use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LAST_AT: Cell<i64> = const { Cell::new(0) };
    static IN_PLANS: Cell<Marked> = const { Cell::new(Marked::None) };
}

/// How plans that hold constants are identified.
#[derive(Clone, Copy)]
enum Marked {
    /// There are none.
    None,
    /// They depend on the function whose oid has this hash.
    By(u32),
    /// They can't be identified: there is no such function.
    Unknown,
}

unsafe extern "C-unwind" {
    // pgrx's own bindings set up an error boundary. A callback must not unwind out of one, and an input function can't afford
    // one.
    #[link_name = "ResetPlanCache"]
    fn reset_plan_cache();
    #[link_name = "CallSyscacheCallbacks"]
    fn call_syscache_callbacks(cache: c_int, hash: u32);
    fn GetCurrentStatementStartTimestamp() -> i64;
}

/// When the client message that is being processed arrived.
#[inline]
pub fn statement_start() -> i64 {
    // SAFETY: reads a variable of this session.
    unsafe { GetCurrentStatementStartTimestamp() }
}

/// Records that a value was sealed that may become a constant of a plan.
#[inline]
pub fn note_constant() {
    COUNT.set(COUNT.get() + 1);
    LAST_AT.set(statement_start());
}

/// How many such values this session has sealed.
pub fn constants_sealed() -> u64 {
    COUNT.get()
}

/// Whether any was sealed since the current client message arrived. A literal is sealed while its own statement is analysed,
/// so none is missed, whatever else runs in between.
#[inline]
pub fn may_have_sealed_literals() -> bool {
    COUNT.get() > 0 && LAST_AT.get() == statement_start()
}

/// Records that a plan, or a statement that plans are made from, holds sealed constants. It depends on the function with this
/// hash; `None` if there is no such function.
pub fn constants_are_in_plans(mark: Option<u32>) {
    IN_PLANS.set(match (mark, IN_PLANS.get()) {
        (Some(hash), Marked::None | Marked::By(_)) => Marked::By(hash),
        _ => Marked::Unknown,
    });
}

/// Invalidates this session's plans that hold sealed constants: those belong to the previous keyset or key.
pub fn forget_constants() {
    // SAFETY: both only mark plans as invalid, as PostgreSQL itself does whenever a function or an operator changes, and look
    // nothing up.
    unsafe {
        match IN_PLANS.replace(Marked::None) {
            Marked::None => {}
            Marked::By(hash) => call_syscache_callbacks(pg_sys::SysCacheIdentifier::PROCOID as c_int, hash),
            Marked::Unknown => reset_plan_cache(),
        }
    }
}
