//! New values in PostgreSQL's memory.
//!
//! # What may be held where PostgreSQL raises an error
//!
//! An error of PostgreSQL's is a `longjmp`, which runs no destructor. pgrx's bindings (`pg_sys::…`, and what pgrx makes of them:
//! `Spi`, `check_for_interrupts!`) catch it and panic instead, so that Rust unwinds up to the function that PostgreSQL called.
//! Across those anything may be held: it is dropped, a `RefCell` is given back, a key is wiped.
//!
//! An error jumps over our frames, up to the next such binding or out of the function, where it comes from
//!
//! - a function that we declare ourselves, in an `extern "C-unwind"` block: each of them says why it is there. Most raise nothing;
//! - a function that is called by its pointer: the next one of a hook;
//! - a report below ERROR, which looks for a cancel at its end. So warnings are reported by [`warn`](crate::error::warn), not by
//!   `ErrorReport::report`.
//!
//! Across those nothing is held that has to be dropped, by nobody up to where the error ends. That goes for whoever seals, opens
//! or compares values: for each of them the keyring takes in messages of other sessions by a function of our own declaring
//! (`keyring::invalidation`). A [`Varlena`] may be held: nothing drops it, PostgreSQL frees its memory.
//!
//! What is dropped while an error unwinds must not raise another one. FATAL ends the process and drops nothing.

use crate::error::Error;
use pgrx::pg_sys;
use std::ptr::NonNull;

/// The longest envelope in bytes (about 768 MiB): its text form still fits what PostgreSQL can allocate (1 GiB - 1), so
/// that every value that was stored can be dumped.
pub const MAX_ENVELOPE_LEN: usize = (0x3fff_ffff - 32) / 4 * 3;

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary at each call, which costs more than the call.
    fn palloc_extended(size: usize, flags: i32) -> *mut std::ffi::c_void;
}

/// A new varlena in the current memory context, which owns it.
pub struct Varlena {
    pointer: NonNull<pg_sys::varlena>,
    payload_len: usize,
}

impl Varlena {
    /// A varlena with a payload of `payload_len` zeros, to be written. Raises no error of PostgreSQL's.
    pub fn new(payload_len: usize) -> Result<Self, Error> {
        // Memory that was never written is not to be borrowed as bytes, not even to write it.
        Self::allocate(payload_len, pg_sys::MCXT_ALLOC_ZERO)
    }

    fn allocate(payload_len: usize, flags: u32) -> Result<Self, Error> {
        if payload_len > MAX_ENVELOPE_LEN {
            return Err(Error::TooLong { length: payload_len, limit: MAX_ENVELOPE_LEN });
        }
        let total = payload_len + pg_sys::VARHDRSZ;
        // SAFETY: it gives `total` bytes or null; it raises an error only for lengths above the limit that was checked.
        let pointer = unsafe { palloc_extended(total, (flags | pg_sys::MCXT_ALLOC_NO_OOM) as i32) };
        let pointer = NonNull::new(pointer.cast::<pg_sys::varlena>()).ok_or(Error::OutOfMemory)?;
        // SAFETY: newly allocated with a header, and the length fits it.
        unsafe { pgrx::set_varsize_4b(pointer.as_ptr(), total as i32) };
        Ok(Self { pointer, payload_len })
    }

    /// A varlena with this payload.
    pub fn copy_of(payload: &[u8]) -> Result<Self, Error> {
        let varlena = Self::allocate(payload.len(), 0)?;
        // SAFETY: the new memory is as long, and nothing else refers to it.
        unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), varlena.payload(), payload.len()) };
        Ok(varlena)
    }

    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: see `bytes_mut`.
        unsafe { std::slice::from_raw_parts(self.payload(), self.payload_len) }
    }

    /// The payload, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this length, owned by this value alone, and written from the start: zeros or a copy.
        unsafe { std::slice::from_raw_parts_mut(self.payload(), self.payload_len) }
    }

    /// Shortens the payload.
    pub fn truncate(&mut self, payload_len: usize) {
        self.payload_len = self.payload_len.min(payload_len);
        // SAFETY: a shorter length than the one that was allocated.
        unsafe { pgrx::set_varsize_4b(self.pointer.as_ptr(), (self.payload_len + pg_sys::VARHDRSZ) as i32) }
    }

    /// Frees it before its memory context would.
    pub fn free(self) {
        // SAFETY: allocated by palloc, and nothing refers to it any more.
        unsafe { pg_sys::pfree(self.pointer.as_ptr().cast()) }
    }

    fn payload(&self) -> *mut u8 {
        // SAFETY: the header is part of the allocation.
        unsafe { self.pointer.as_ptr().cast::<u8>().add(pg_sys::VARHDRSZ) }
    }

    /// The value as PostgreSQL takes it.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.pointer.as_ptr())
    }
}
