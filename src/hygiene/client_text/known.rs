//! What is known of the client's text. It is kept under the text's address until PostgreSQL resets `MessageContext` before the
//! client's next message: that context holds the text, so until then no other text can have its address.

use super::prepared::{dialect, prepared};
use crate::hygiene::naming::Mentions;
use crate::hygiene::view::View;
use crate::hygiene::{activity, blank, likely_key, naming, redact};
use crate::settings;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::TryReserveError;
use std::ffi::{CStr, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ops::Range;
use zeroize::Zeroize;

/// How many bytes of the values given to the key setting are remembered.
const MOST_TRIED: usize = 1 << 12;
/// How many blanked texts are kept in processes that don't signal when one is no longer needed.
const MOST_KEPT: usize = 8;

/// What this process knows of its client's text.
pub struct Client {
    pub known: Option<Known>,
    /// Blanked texts, with their terminators. PostgreSQL may refer to them until the end of the client's message.
    kept: Vec<Box<[u8]>>,
    /// The values that this message has given to the key setting, refused ones too, each after a zero byte.
    pub tried: Vec<u8>,
}

/// What is known of one text.
#[derive(Clone, Copy)]
pub struct Known {
    pub text: *const c_char,
    pub length: usize,
    /// What its statements, or those that they execute, give keys to.
    pub mentions: Mentions,
    /// Null if there is nothing to blank.
    pub blanked: *mut c_char,
    /// How many bytes of `Client::tried` it was searched for.
    tried: usize,
    /// The generation of the master-key settings whose key it was searched for.
    generation: Option<u64>,
}

thread_local! {
    // Never dropped: messages are emitted until the very end of the process.
    pub static CLIENT: RefCell<ManuallyDrop<Client>> = const {
        RefCell::new(ManuallyDrop::new(Client { known: None, kept: Vec::new(), tried: Vec::new() }))
    };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CALLBACK: UnsafeCell<pg_sys::MemoryContextCallback> = const {
        UnsafeCell::new(pg_sys::MemoryContextCallback {
            func: Some(forget),
            arg: std::ptr::null_mut(),
            next: std::ptr::null_mut(),
        })
    };
}

unsafe extern "C-unwind" {
    // pgrx's own bindings would set up an error boundary; these raise no error, and may be called while one is reported.
    fn MemoryContextRegisterResetCallback(
        context: pg_sys::MemoryContext,
        callback: *mut pg_sys::MemoryContextCallback,
    );
}

/// Null in processes that serve no client.
pub fn client_context() -> pg_sys::MemoryContext {
    // SAFETY: a global that only this process writes.
    unsafe { pg_sys::MessageContext }
}

/// A text without its terminator.
///
/// # Safety
/// It is terminated, and stays valid while the result is used.
pub unsafe fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

impl Known {
    /// Whether a text is this one, or its blanked copy.
    pub fn is(&self, text: *const c_char) -> bool {
        text == self.text || (!text.is_null() && text == self.blanked)
    }
}

impl Client {
    /// What is known of the text; an error if there was no memory to find out.
    pub fn look(&mut self) -> Result<Option<Known>, TryReserveError> {
        // SAFETY: a global that is null or a terminated string.
        let text = unsafe { pg_sys::debug_query_string };
        if text.is_null() {
            return Ok(None);
        }
        let mut known = match self.known {
            // Where nothing signals the end of a text, another one may have its address. The blanked copy's is its own.
            Some(known) if known.is(text) && (!client_context().is_null() || text == known.blanked) => known,
            _ => self.read(text)?,
        };
        let is_changed = self.blank_keys(&mut known)?;
        self.keep(known);
        if is_changed || text == known.text {
            self.show(known);
        }
        Ok(Some(known))
    }

    /// Reads a text for the first time.
    fn read(&mut self, text: *const c_char) -> Result<Known, TryReserveError> {
        // SAFETY: the text of the client's message, which `look` has found not to be null.
        let of_text = unsafe { bytes(text) };
        let mut known = Known {
            text,
            length: of_text.len(),
            mentions: Mentions::default(),
            blanked: std::ptr::null_mut(),
            tried: 0,
            generation: None,
        };
        if naming::mentions(of_text, dialect()).any() || redact::has_word(of_text, b"execute") {
            let mut copy = copy_of(of_text)?;
            known.mentions = naming::blank(of_text, &mut copy[..of_text.len()], dialect(), &prepared);
            if copy[..of_text.len()] != *of_text {
                known.blanked = self.kept(copy);
            }
        }
        Ok(known)
    }

    /// Blanks the keys that the session has or had, searching for each once. Returns whether it found any.
    fn blank_keys(&mut self, known: &mut Known) -> Result<bool, TryReserveError> {
        let generation = Some(settings::master_generation());
        let inline = settings::inline_master_key().map_or(&[][..], CStr::to_bytes);
        // A key that a statement set is among the tried values.
        let is_new = known.generation != generation && !redact::is_among(inline, &self.tried);
        let inline = if is_new { inline } else { &[] };
        let shown = if known.blanked.is_null() { known.text } else { known.blanked };
        // SAFETY: both have this length, and stay valid while they are known.
        let shown = unsafe { std::slice::from_raw_parts(shown.cast::<u8>(), known.length) };
        let from = known.tried.min(self.tried.len());
        let found = redact::holds_key(shown, inline)
            || redact::holds_key(shown, self.tried.get(from..).unwrap_or_default());
        if found {
            self.change(known, |target, tried| {
                redact::overwrite_keys(target, inline);
                redact::overwrite_keys(target, tried.get(from..).unwrap_or_default());
            })?;
        }
        (known.generation, known.tried) = (generation, self.tried.len());
        Ok(found)
    }

    /// Blanks all strings of a statement, and words that may be a key.
    pub fn blank_part(&mut self, part: Range<usize>) -> Result<(), TryReserveError> {
        let Some(mut known) = self.known else { return Ok(()) };
        // SAFETY: the text has this length, and stays valid while it is known.
        let whole = unsafe { std::slice::from_raw_parts(known.text.cast::<u8>(), known.length) };
        let Some(of_part) = whole.get(part.clone()) else { return Ok(()) };
        self.change(&mut known, |target, _| blank::all_literals(of_part, &mut target[part], dialect()))?;
        known.mentions.setting = true;
        self.keep(known);
        self.show(known);
        Ok(())
    }

    /// Blanks what may be the key of a file anywhere in the text, which does not name the function that something of it has called.
    pub fn blank_likely_keys(&mut self) -> Result<(), TryReserveError> {
        let Some(mut known) = self.look()?.filter(|known| !known.mentions.file_call) else { return Ok(()) };
        // SAFETY: the text has this length; it was just looked at, so it is valid.
        let whole = unsafe { std::slice::from_raw_parts(known.text.cast::<u8>(), known.length) };
        let view = View::of(whole);
        self.change(&mut known, |target, _| {
            likely_key::blank_in(&view, 0..whole.len(), dialect(), blank::DEEPEST, target);
        })?;
        known.mentions.file_call = true;
        self.keep(known);
        self.show(known);
        Ok(())
    }

    /// Changes the blanked copy, and first makes it if there is none.
    fn change(
        &mut self,
        known: &mut Known,
        change: impl FnOnce(&mut [u8], &[u8]),
    ) -> Result<(), TryReserveError> {
        if known.blanked.is_null() {
            // SAFETY: the text of the client's message.
            let of_text = unsafe { bytes(known.text) };
            known.blanked = self.kept(copy_of(of_text)?);
        }
        // SAFETY: the copy is kept, has this length plus a terminator, and no Rust reference to it exists.
        let target = unsafe { std::slice::from_raw_parts_mut(known.blanked.cast::<u8>(), known.length) };
        change(target, &self.tried);
        Ok(())
    }

    fn kept(&mut self, copy: Box<[u8]>) -> *mut c_char {
        // SAFETY: a global, which is only compared.
        let current = unsafe { pg_sys::debug_query_string };
        if client_context().is_null() && self.kept.len() >= MOST_KEPT {
            let oldest = self.kept.iter().position(|kept| kept.as_ptr().cast() != current);
            oldest.map(|at| self.kept.remove(at));
        }
        self.kept.push(copy);
        self.kept.last_mut().map_or(std::ptr::null_mut(), |copy| copy.as_mut_ptr().cast())
    }

    /// Makes PostgreSQL show the blanked text.
    fn show(&mut self, known: Known) {
        if known.blanked.is_null() {
            return;
        }
        // SAFETY: the copy is a terminated string that stays valid until PostgreSQL sets this to something else.
        unsafe {
            if pg_sys::debug_query_string == known.text {
                pg_sys::debug_query_string = known.blanked;
            }
            activity::show(known.blanked);
        }
    }

    fn keep(&mut self, known: Known) {
        self.known = Some(known);
        let context = client_context();
        // SAFETY: the callback's memory belongs to this thread and doesn't move, and is registered once at a time.
        unsafe {
            if !context.is_null() && !IS_REGISTERED.replace(true) {
                CALLBACK.with(|callback| MemoryContextRegisterResetCallback(context, callback.get()));
            }
        }
    }

    /// Remembers a value that was given to the key setting.
    pub fn note(&mut self, value: &[u8]) {
        if value.len() >= MOST_TRIED || redact::is_among(value, &self.tried) {
            return;
        }
        if self.tried.len() + value.len() >= MOST_TRIED {
            self.tried.zeroize();
            if let Some(known) = &mut self.known {
                known.tried = 0;
            }
        }
        // Full size from the start: a larger buffer would leave this one behind, unwiped.
        if self.tried.try_reserve_exact(MOST_TRIED - self.tried.len()).is_err() {
            return;
        }
        self.tried.push(0);
        self.tried.extend_from_slice(value);
    }
}

/// A copy with a terminator.
fn copy_of(text: &[u8]) -> Result<Box<[u8]>, TryReserveError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(text.len() + 1)?;
    copy.extend_from_slice(text);
    copy.push(0);
    Ok(copy.into_boxed_slice())
}

/// Not guarded: nothing in it can panic or raise an error.
unsafe extern "C-unwind" fn forget(_argument: *mut c_void) {
    IS_REGISTERED.set(false);
    // SAFETY: a global, which is only compared.
    let current = unsafe { pg_sys::debug_query_string };
    CLIENT.with(|client| {
        let Ok(mut client) = client.try_borrow_mut() else { return };
        client.known = None;
        client.tried.zeroize();
        client.kept.retain(|kept| kept.as_ptr().cast() == current);
    });
}
