//! Checks EXECUTE again when a function runs. PostgreSQL checks it when it initializes an expression, and may evaluate
//! that for other roles later: PL/pgSQL keeps casts and simple expressions for a whole transaction, whoever runs them.

use super::lookup::may_execute;
use super::{CATALOGS, function_oid, listen};
use crate::error::Error;
use crate::identity::Identity;
use crate::interrupts;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// A role that may execute a function.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Permitted {
    function: pg_sys::Oid,
    role: pg_sys::Oid,
    /// [`CATALOGS`] when it was looked up.
    as_of: u32,
}

impl Permitted {
    /// What the running call takes.
    #[inline]
    fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self { function: function_oid(fcinfo), role: Identity::current().role, as_of: CATALOGS.get() }
    }

    #[inline]
    fn is_known(self) -> bool {
        KNOWN.with(|known| known[place(self.function)].get() == Some(self))
    }
}

/// Functions with neighbouring oids, called by turns, must not displace each other.
const PLACES: usize = 16;

thread_local! {
    static KNOWN: [Cell<Option<Permitted>>; PLACES] = const { [const { Cell::new(None) }; PLACES] };
}

/// Fails unless the current role has the EXECUTE privilege on the running function.
///
/// `fcinfo` is the running call.
#[inline]
pub fn require_execute(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let call = Permitted::of(fcinfo);
    if call.is_known() { Ok(()) } else { require_otherwise(call) }
}

/// Whether [`require_execute`] is known to succeed. Looks nothing up.
#[inline]
pub fn is_known_to_execute(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    Permitted::of(fcinfo).is_known()
}

fn place(function: pg_sys::Oid) -> usize {
    function.to_u32() as usize % PLACES
}

#[cold]
#[inline(never)]
fn require_otherwise(mut call: Permitted) -> Result<(), Error> {
    if interrupts::are_held_off() {
        return Err(Error::KeysNotReady { cause: None });
    }
    listen();
    call.as_of = CATALOGS.get();
    // SAFETY: catalog look-ups inside a transaction.
    if !unsafe { may_execute(call.function, call.role) } {
        return Err(Error::FunctionDenied(name_of(call.function)));
    }
    KNOWN.with(|known| known[place(call.function)].set(Some(call)));
    Ok(())
}

fn name_of(function: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up; the result is null, or a terminated string that is copied.
    unsafe {
        let name = pg_sys::get_func_name(function);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}
