//! What a function keeps from call to call of one statement.

use pgrx::pg_sys;

/// The value that `make` gave at the first call of this expression. A function keeps only one type of value.
///
/// # Safety
/// A running call. The value stays right for as long as the expression is used.
pub unsafe fn kept<T: Copy, E>(
    fcinfo: pg_sys::FunctionCallInfo,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    // SAFETY: as promised by the caller: PostgreSQL leaves `fn_extra` to the function, and frees this memory with it. The memory is
    // aligned for any value of PostgreSQL, and written before it is read.
    unsafe {
        let function = (*fcinfo).flinfo;
        if let Some(known) = (*function).fn_extra.cast::<T>().as_ref() {
            return Ok(*known);
        }
        let value = make()?;
        let place = pg_sys::MemoryContextAlloc((*function).fn_mcxt, size_of::<T>()).cast::<T>();
        place.write(value);
        (*function).fn_extra = place.cast();
        Ok(value)
    }
}
