//! COPY into encrypted columns: what shows its input is withheld as it leaves the statement, and so from whatever handles it
//! later: the client, the log or a function that catches the error.
//!
//! Running COPYs form a stack, since a trigger or a function may run one inside another. The C stack holds it, and only its
//! height is kept here. Every way out of a statement, errors included, passes [`run`], which restores the height.

use super::{copy_message, level};
use crate::datatype::{nested, type_lookup};
use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{CStr, c_char, c_void};

thread_local! {
    static RUNNING: Cell<u32> = const { Cell::new(0) };
    static CONSTANTS: RefCell<Vec<&'static CStr>> = const { RefCell::new(Vec::new()) };
    static MISSED: Cell<bool> = const { Cell::new(false) };
    static CALLBACK: UnsafeCell<pg_sys::MemoryContextCallback> = const {
        UnsafeCell::new(pg_sys::MemoryContextCallback {
            func: Some(forget),
            arg: std::ptr::null_mut(),
            next: std::ptr::null_mut(),
        })
    };
}

unsafe extern "C-unwind" {
    // pgrx's own bindings would catch errors and raise them again with less detail.
    fn CopyErrorData() -> *mut pg_sys::ErrorData;
    fn FlushErrorState();
    fn ReThrowError(error: *mut pg_sys::ErrorData) -> !;
    fn IsLogicalWorker() -> bool;
}

/// Whether a statement is a COPY into encrypted columns.
///
/// # Safety
/// `node` is null or a utility statement.
pub unsafe fn is_into_encrypted_column(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the node's tag says what it is; catalog look-ups happen inside the statement's transaction.
    unsafe {
        if !pgrx::is_a(node, pg_sys::NodeTag::T_CopyStmt) {
            return false;
        }
        let copy = &*node.cast::<pg_sys::CopyStmt>();
        if !copy.is_from || !pg_sys::IsTransactionState() {
            return false;
        }
        let relation = type_lookup::named_relation(copy.relation);
        relation != pg_sys::InvalidOid && nested::has_encrypted_column(relation)
    }
}

/// Whether a COPY into encrypted columns is running.
pub fn is_running() -> bool {
    RUNNING.get() > 0
}

/// Runs a statement, and withholds the input from an error that leaves it. This is PostgreSQL's PG_TRY.
///
/// # Safety
/// `statement` runs a COPY into encrypted columns, or something inside one. Neither it nor the caller holds anything that
/// must be dropped.
pub unsafe fn run(statement: impl Fn()) {
    // SAFETY: errors jump to the buffer only while this frame exists: both stacks are restored before it ends. Nothing
    // that is read after the second return of sigsetjmp is changed between its two returns.
    unsafe {
        let height = RUNNING.get();
        let raised = level::raise();
        let memory = pg_sys::CurrentMemoryContext;
        let (handler, contexts) = (pg_sys::PG_exception_stack, pg_sys::error_context_stack);
        RUNNING.set(height + 1);
        let failed = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = std::ptr::from_ref::<SigJmpBufFields>(buffer).cast_mut().cast();
            statement();
            0
        });
        (pg_sys::PG_exception_stack, pg_sys::error_context_stack) = (handler, contexts);
        RUNNING.set(height);
        if failed == 0 {
            level::lower(raised);
            return;
        }
        pg_sys::CurrentMemoryContext = memory;
        let error = CopyErrorData();
        // CopyErrorData copies only these pointers, as if to constants. Those of Rust libraries are in memory that is
        // flushed below.
        (*error).filename = constant((*error).filename);
        (*error).funcname = constant((*error).funcname);
        FlushErrorState();
        level::after_error(raised, &mut *error);
        copy_message::withhold(&mut *error);
        ReThrowError(error)
    }
}

/// The same string in memory that is never freed, since the error may be reported at any later time. There are few: each
/// names a place in source code.
///
/// # Safety
/// `text` is null or a terminated string.
unsafe fn constant(text: *const c_char) -> *const c_char {
    if text.is_null() {
        return text;
    }
    // SAFETY: as promised by the caller.
    let text = unsafe { CStr::from_ptr(text) };
    CONSTANTS.with_borrow_mut(|constants| match constants.iter().find(|constant| **constant == text) {
        Some(constant) => constant.as_ptr(),
        None => {
            let constant: &'static CStr = Box::leak(text.to_owned().into_boxed_c_str());
            constants.push(constant);
            constant.as_ptr()
        }
    })
}

/// Withholds the input from a message that is reported while such a COPY runs, or may be running.
///
/// # Safety
/// `error` is about to be emitted; its fields are null or terminated strings in memory that the message owns.
pub unsafe fn withhold(error: &mut pg_sys::ErrorData) {
    // SAFETY: as promised by the caller.
    unsafe {
        if is_running() || (may_be_unknown() && is_about_a_copy(error)) {
            copy_message::withhold(error);
        }
    }
}

/// Whether a COPY may run unnoticed: the initial copy of a subscribed table, which is no statement, or one that began before
/// the library was loaded.
fn may_be_unknown() -> bool {
    // SAFETY: only reads what kind of process this is.
    MISSED.get() || unsafe { IsLogicalWorker() }
}

/// # Safety
/// As for [`withhold`].
unsafe fn is_about_a_copy(error: &pg_sys::ErrorData) -> bool {
    if error.context.is_null() {
        return false;
    }
    // SAFETY: as promised by the caller.
    let context = unsafe { CStr::from_ptr(error.context) }.to_bytes();
    // Only the Korean translation names it differently.
    ["COPY", "복사"].iter().any(|name| memchr::memmem::find(context, name.as_bytes()).is_some())
}

/// If the input function of a COPY's column loads the library, the library has missed the beginning of that COPY. So until
/// the client's running statement ends, and its memory is freed, every message about a COPY may be about that one.
pub fn init() {
    // SAFETY: globals; the context is that of the running portal, if there is one. The callback's memory doesn't move, and
    // is registered once, since this is called once.
    unsafe {
        if pg_sys::process_shared_preload_libraries_in_progress || pg_sys::PortalContext.is_null() {
            return;
        }
        MISSED.set(true);
        CALLBACK.with(|callback| {
            pg_sys::MemoryContextRegisterResetCallback(pg_sys::PortalContext, callback.get());
        });
    }
}

/// Not guarded: nothing in it can panic or raise an error.
unsafe extern "C-unwind" fn forget(_argument: *mut c_void) {
    MISSED.set(false);
}
