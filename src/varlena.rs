//! New values in PostgreSQL's memory.
//!
//! # What may be held when PostgreSQL raises an error
//!
//! A PostgreSQL error is a `longjmp`, which runs no destructors. pgrx's bindings (`pg_sys::…`, and what pgrx builds on them:
//! `Spi`, `check_for_interrupts!`) catch it and panic instead, so that Rust unwinds up to the function that PostgreSQL called.
//! Anything may be held across these calls: it is dropped, a `RefCell` borrow is released, a key is wiped.
//!
//! An error jumps over our frames, up to the next such binding or out of the function, if it comes from
//!
//! - a function that we declare ourselves in an `extern "C-unwind"` block: each says why it is there. Most raise nothing;
//! - a function that is called through a pointer: the next one of a hook;
//! - a report below ERROR, which checks for a cancel at its end. So warnings are reported by [`warn`](crate::error::warn), not
//!   by `ErrorReport::report`.
//!
//! Across the calls listed, no frame up to where the error is caught may hold anything that must be dropped. That includes
//! every caller that seals, opens or compares values: for each value, the keyring accepts messages from other sessions through
//! a function that we declare ourselves (`keyring::invalidation`). A [`Varlena`] may be held: nothing drops it, PostgreSQL
//! frees its memory.
//!
//! What is dropped while an error unwinds must not raise another one. FATAL ends the process and drops nothing.

use crate::error::Error;
use pgrx::pg_sys;
use std::ptr::NonNull;

/// The longest envelope in bytes (about 768 MiB). Its text form still fits PostgreSQL's largest allocation (1 GiB - 1), so
/// every stored value can be dumped.
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
    /// A varlena with a payload of `payload_len` zeros, to be overwritten. Raises no PostgreSQL error.
    pub fn new(payload_len: usize) -> Result<Self, Error> {
        Self::if_possible(payload_len).ok_or_else(|| Self::impossible(payload_len))
    }

    /// The same, where the caller has no use for the reason.
    #[inline]
    pub fn if_possible(payload_len: usize) -> Option<Self> {
        // Zeroed because uninitialised memory must not be borrowed as bytes, not even to write to it.
        Self::allocate(payload_len, pg_sys::MCXT_ALLOC_ZERO)
    }

    #[cold]
    fn impossible(payload_len: usize) -> Error {
        if payload_len > MAX_ENVELOPE_LEN {
            Error::TooLong { length: payload_len, limit: MAX_ENVELOPE_LEN }
        } else {
            Error::OutOfMemory
        }
    }

    #[inline]
    fn allocate(payload_len: usize, flags: u32) -> Option<Self> {
        if payload_len > MAX_ENVELOPE_LEN {
            return None;
        }
        let total = payload_len + pg_sys::VARHDRSZ;
        // SAFETY: returns `total` bytes or null; raises an error only for lengths above the limit checked here.
        let pointer = unsafe { palloc_extended(total, (flags | pg_sys::MCXT_ALLOC_NO_OOM) as i32) };
        let pointer = NonNull::new(pointer.cast::<pg_sys::varlena>())?;
        // SAFETY: the allocation is new and includes the header, and the length fits in it.
        unsafe { pgrx::set_varsize_4b(pointer.as_ptr(), total as i32) };
        Some(Self { pointer, payload_len })
    }

    /// A varlena with this payload.
    pub fn copy_of(payload: &[u8]) -> Result<Self, Error> {
        let varlena = Self::allocate(payload.len(), 0).ok_or_else(|| Self::impossible(payload.len()))?;
        // SAFETY: the new memory has the same length, and nothing else refers to it.
        unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), varlena.payload(), payload.len()) };
        Ok(varlena)
    }

    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: see `bytes_mut`.
        unsafe { std::slice::from_raw_parts(self.payload(), self.payload_len) }
    }

    /// The payload, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this length, owned by this value alone, and initialised at creation with zeros or a copy.
        unsafe { std::slice::from_raw_parts_mut(self.payload(), self.payload_len) }
    }

    /// Shortens the payload.
    pub fn truncate(&mut self, payload_len: usize) {
        self.payload_len = self.payload_len.min(payload_len);
        // SAFETY: no more than the allocated length.
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

    /// The value as a PostgreSQL datum.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.pointer.as_ptr())
    }
}
