//! Conversions through text: PostgreSQL converts to any type of the string category, and explicitly to any type, by the
//! output function of the one type and the input function of the other. For those these functions are casts.

use crate::datatype::nested;
use crate::error::Error;
use pgrx::pg_sys;

/// What an input or output function is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A value comes in or goes out: literals, parameters, COPY, parts of arrays and rows, JSON.
    Transport,
    /// A value becomes one of another type; this is the type that it was of.
    Conversion(pg_sys::Oid),
    /// The planner estimates what a conversion of a constant gives.
    Estimate,
}

impl Purpose {
    /// That of the running call.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: PostgreSQL passes a valid call. Its expression is null, or a node whose tag says what it is: the executor
        // gives a `CoerceViaIO` to the functions that make it up.
        unsafe {
            let function = (*fcinfo).flinfo;
            let expression: *mut pg_sys::Node =
                if function.is_null() { std::ptr::null_mut() } else { (*function).fn_expr };
            if expression.is_null() {
                return Self::Transport;
            }
            match (*expression).type_ {
                pg_sys::NodeTag::T_CoerceViaIO => {
                    let conversion = &*expression.cast::<pg_sys::CoerceViaIO>();
                    Self::Conversion(pg_sys::exprType(conversion.arg.cast()))
                }
                pg_sys::NodeTag::T_FuncExpr if is_made_by_planner(&*expression.cast()) => Self::Estimate,
                _ => Self::Transport,
            }
        }
    }
}

/// Whether a call is one that the planner made of a conversion, to compute it. Calls that somebody wrote have a place in the
/// text of their statement; what was stored in a view has none any more, but is rarely called with a constant.
///
/// # Safety
/// The call is a node of PostgreSQL's.
unsafe fn is_made_by_planner(call: &pg_sys::FuncExpr) -> bool {
    // SAFETY: as promised by the caller; the list is asked only where it has an element.
    unsafe {
        call.location < 0
            && !call.args.is_null()
            && (*call.args).length > 0
            && pgrx::is_a(pg_sys::list_nth(call.args, 0).cast(), pg_sys::NodeTag::T_Const)
    }
}

/// Refuses what a row or an array of encrypted values becomes as text: that is made of ciphertext.
///
/// Inside a transaction.
pub fn check_source(source: pg_sys::Oid) -> Result<(), Error> {
    if nested::holds(source).encrypted { Err(Error::MadeOfCiphertext) } else { Ok(()) }
}
