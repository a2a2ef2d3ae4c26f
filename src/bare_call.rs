//! Functions that PostgreSQL calls for each row of a large scan. Their usual case runs without the frame that pgrx sets up around each
//! call; everything else goes to the function that has it.
//!
//! Nothing in a usual case may panic, raise an error itself, or hold anything that must be dropped.

use pgrx::pg_sys;

/// Declares a function to PostgreSQL, as `PG_FUNCTION_INFO_V1` does: `$usual`, or `$otherwise` if that returns `None`.
/// `$looked_up` is called when PostgreSQL looks the function up, once per session: before index code calls it, and before a
/// page is locked.
macro_rules! sql_function {
    ($name:ident, $info:ident, $usual:expr, $otherwise:ident) => {
        $crate::bare_call::sql_function!($name, $info, $usual, $otherwise, || {});
    };
    ($name:ident, $info:ident, $usual:expr, $otherwise:ident, $looked_up:expr) => {
        #[unsafe(no_mangle)]
        #[doc(hidden)]
        pub extern "C-unwind" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            $looked_up();
            &V1
        }

        #[unsafe(no_mangle)]
        #[doc(hidden)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            // SAFETY: PostgreSQL passes a call with the argument types of the install script.
            unsafe {
                match $crate::bare_call::unwinding_to_here(|| $usual(fcinfo)) {
                    Some(datum) => datum,
                    None => $otherwise(fcinfo),
                }
            }
        }
    };
}
pub(crate) use sql_function;

/// A panic must not unwind into PostgreSQL. There is none to expect, and expecting it costs nothing.
#[inline(always)]
pub fn unwinding_to_here<T>(usual: impl FnOnce() -> Option<T>) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(usual)).ok().flatten()
}

/// Whether an argument is null.
///
/// # Safety
/// The call has this argument.
#[inline(always)]
pub unsafe fn is_null(fcinfo: pg_sys::FunctionCallInfo, index: usize) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { (*fcinfo).args.as_ptr().add(index).read().isnull }
}

/// The payload of an inline argument: neither compressed nor stored out of line.
///
/// # Safety
/// The call has this argument, a non-null varlena.
#[inline(always)]
pub unsafe fn argument<'a>(fcinfo: pg_sys::FunctionCallInfo, index: usize) -> Option<&'a [u8]> {
    // SAFETY: as promised by the caller.
    unsafe {
        let pointer = (*fcinfo).args.as_ptr().add(index).read().value.cast_mut_ptr::<pg_sys::varlena>();
        let is_elsewhere = pgrx::varatt_is_1b_e(pointer) || pgrx::varatt_is_4b_c(pointer);
        (!is_elsewhere).then(|| pgrx::varlena_to_byte_slice(pointer))
    }
}
