//! The text that the client sent, without the keys in it. It may hold thousands of statements, each of which asks, and so do
//! their messages: so it is read once.
//!
//! PostgreSQL logs this text as the statement of a message, and gives it to parallel workers: `debug_query_string`. Where it
//! holds a key, that is set to a copy of the same length, with the key blanked. What is known is kept by the address of
//! the text until PostgreSQL resets `MessageContext` before the client's next message: that context holds the text, so
//! until then its address can't be another text's.

use super::lexer::Dialect;
use super::{activity, blank, naming, redact};
use crate::settings;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::TryReserveError;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::null;
use zeroize::Zeroize;

/// How much is remembered of the values that were given to the key setting.
const MOST_TRIED: usize = 1 << 12;
/// How many blanked texts are kept in processes that don't tell when one is done with.
const MOST_KEPT: usize = 8;

struct Client {
    known: Option<Known>,
    /// Blanked texts, with their terminators. PostgreSQL may refer to them until the end of the client's message.
    kept: Vec<Box<[u8]>>,
    /// The values that this message has given to the key setting, refused ones too, each after a zero.
    tried: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Known {
    text: *const c_char,
    length: usize,
    /// Whether a statement of it names the key setting.
    names: bool,
    /// Null where nothing is to be blanked.
    blanked: *mut c_char,
    /// How much of the tried values it was searched for.
    tried: usize,
    /// The generation of the settings whose key it was searched for.
    generation: Option<u64>,
}

thread_local! {
    // Never dropped: messages are emitted until the very end of the process.
    static CLIENT: RefCell<ManuallyDrop<Client>> = const {
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
    // pgrx's own bindings would begin to catch errors; these raise none, and may be called while one is reported.
    fn MemoryContextRegisterResetCallback(
        context: pg_sys::MemoryContext,
        callback: *mut pg_sys::MemoryContextCallback,
    );
    #[allow(non_snake_case, reason = "the name is PostgreSQL's")]
    fn FetchPreparedStatement(name: *const c_char, throwError: bool) -> *mut pg_sys::PreparedStatement;
}

/// The client's text as a message may show it.
pub struct Asked<'a> {
    /// Whether a statement of it names the key setting, or executes one that does.
    pub names: bool,
    /// The text as it was sent, where that is known.
    pub text: Option<&'a [u8]>,
    /// The same without keys, where it has any.
    pub blanked: Option<&'a [u8]>,
    /// Values that were given to the key setting.
    pub tried: &'a [u8],
}

/// Looks at the text of the client, and has PostgreSQL log it without keys. `None`: it could not be looked at.
pub fn look<T>(then: impl FnOnce(&Asked<'_>) -> T) -> Option<T> {
    CLIENT.with(|client| {
        let mut client = client.try_borrow_mut().ok()?;
        let known = client.look().ok()?;
        let is_there = !client_context().is_null();
        // SAFETY: the text is there as long as it is known, where messages of the client tell when that ends. The copy is
        // there as long as it is kept, and is only changed by `client`, which is borrowed.
        let slice =
            |text: *const c_char, length| unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
        Some(then(&Asked {
            names: known.is_some_and(|known| known.names),
            text: known.filter(|_| is_there).map(|known| slice(known.text, known.length)),
            blanked: known
                .filter(|known| !known.blanked.is_null())
                .map(|known| slice(known.blanked, known.length)),
            tried: &client.tried,
        }))
    })
}

/// A value is about to be given to the key setting, and maybe refused: nothing of this message of the client shows it.
pub fn note_key(value: &CStr) {
    // SAFETY: globals. A starting parallel worker restores its leader's settings and has no statement of its own.
    let has_statement = unsafe {
        if pg_sys::InitializingParallelWorker {
            return;
        }
        !pg_sys::debug_query_string.is_null()
    };
    CLIENT.with_borrow_mut(|client| {
        if !client_context().is_null() && !value.is_empty() {
            client.note(value.to_bytes());
        }
        // What can't be blanked for lack of memory is told apart when a message is emitted.
        let _ = client.look();
    });
    if !has_statement {
        activity::hide();
    }
}

/// The text of a statement, blanked if there is a key in it; null if not.
///
/// # Safety
/// `text` is a terminated string, of which the statement is the part from `location` on, `length` bytes; negative and zero
/// stand for all of it. `is_named` tells whether it is known to set a key.
pub unsafe fn blanked(text: *const c_char, location: i32, length: i32, is_named: bool) -> *const c_char {
    // SAFETY: as promised by the caller.
    let part = unsafe { part(text, location, length) };
    let known = CLIENT.with_borrow_mut(|client| {
        let known = client.look().ok().flatten();
        let known = known.filter(|known| known.is(text) && !client_context().is_null())?;
        // SAFETY: both texts are so long.
        let whole = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), known.length) };
        let of_part = whole.get(part.clone()).unwrap_or_default();
        if is_named && !naming::names(of_part, dialect()) {
            client.blank_part(part.clone()).ok()?;
        }
        client.known.or(Some(known))
    });
    if let Some(known) = known {
        return known.blanked;
    }
    let of_part = &bytes(text)[part.clone()];
    let is_found = naming::names(of_part, dialect());
    if !is_found && !is_named {
        return null();
    }
    // SAFETY: a copy of that length, with its terminator, that nothing else refers to yet.
    unsafe {
        let copy = pg_sys::MemoryContextStrdup(pg_sys::CurrentMemoryContext, text);
        let target = std::slice::from_raw_parts_mut(copy.cast::<u8>().add(part.start), part.len());
        if is_found {
            naming::blank(of_part, target, dialect(), &|_| false);
        } else {
            blank::all_literals(of_part, target, dialect());
        }
        copy
    }
}

/// Whether a prepared statement of this session names the key setting.
pub fn is_prepared(name: &[u8]) -> bool {
    let Ok(name) = CString::new(&name[..name.len().min(pg_sys::NAMEDATALEN as usize - 1)]) else {
        return false;
    };
    // SAFETY: looks a name up in a table of this session, without raising an error. The statement has its text as long as
    // it is there.
    unsafe {
        let statement = FetchPreparedStatement(name.as_ptr(), false);
        if statement.is_null() || (*statement).plansource.is_null() {
            return false;
        }
        let text = (*(*statement).plansource).query_string;
        !text.is_null() && naming::names(CStr::from_ptr(text).to_bytes(), dialect())
    }
}

/// How the statements of this session are written.
pub fn dialect() -> Dialect {
    // SAFETY: a global that only this process writes.
    Dialect { backslashes: unsafe { !pg_sys::standard_conforming_strings }, ..Dialect::default() }
}

/// Null in processes that serve no client.
fn client_context() -> pg_sys::MemoryContext {
    // SAFETY: a global that only this process writes.
    unsafe { pg_sys::MessageContext }
}

fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: callers pass terminated strings, which stay while they use them.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// A statement's own part of a text.
///
/// # Safety
/// As for [`blanked`].
unsafe fn part(text: *const c_char, location: i32, length: i32) -> Range<usize> {
    let start = usize::try_from(location).unwrap_or(0);
    match usize::try_from(length) {
        Ok(length) if length > 0 && location >= 0 => start..start + length,
        // The length of the whole is only counted where it is needed.
        _ => start..bytes(text).len(),
    }
}

impl Known {
    fn is(&self, text: *const c_char) -> bool {
        text == self.text || (!text.is_null() && text == self.blanked)
    }
}

impl Client {
    /// What is known of the text; an error where there was no memory to find out.
    fn look(&mut self) -> Result<Option<Known>, TryReserveError> {
        // SAFETY: a global that is null or a terminated string.
        let text = unsafe { pg_sys::debug_query_string };
        if text.is_null() {
            return Ok(None);
        }
        let mut known = match self.known {
            // Another text may have the address, where nothing tells when this one is done with. Ours has its own.
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
        let of_text = bytes(text);
        let mut known = Known {
            text,
            length: of_text.len(),
            names: false,
            blanked: std::ptr::null_mut(),
            tried: 0,
            generation: None,
        };
        if naming::names(of_text, dialect()) || redact::has_word(of_text, b"execute") {
            let mut copy = copy_of(of_text)?;
            known.names = naming::blank(of_text, &mut copy[..of_text.len()], dialect(), &is_prepared);
            if copy[..of_text.len()] != *of_text {
                known.blanked = self.kept(copy);
            }
        }
        Ok(known)
    }

    /// Blanks the keys that the session has or had, each looked for once. Whether there are any.
    fn blank_keys(&mut self, known: &mut Known) -> Result<bool, TryReserveError> {
        let generation = Some(settings::master_generation());
        let inline = settings::inline_master_key().map_or(&[][..], CStr::to_bytes);
        // What was set by a statement is among the tried ones.
        let is_new = known.generation != generation && !redact::is_among(inline, &self.tried);
        let inline = if is_new { inline } else { &[] };
        let shown = if known.blanked.is_null() { known.text } else { known.blanked };
        // SAFETY: both are so long, as long as they are known.
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

    /// Blanks all literals of a statement.
    fn blank_part(&mut self, part: Range<usize>) -> Result<(), TryReserveError> {
        let Some(mut known) = self.known else { return Ok(()) };
        // SAFETY: the text is so long, and is there as long as it is known.
        let whole = unsafe { std::slice::from_raw_parts(known.text.cast::<u8>(), known.length) };
        let Some(of_part) = whole.get(part.clone()) else { return Ok(()) };
        self.change(&mut known, |target, _| blank::all_literals(of_part, &mut target[part], dialect()))?;
        known.names = true;
        self.keep(known);
        self.show(known);
        Ok(())
    }

    /// Changes the blanked copy, after it was made where there is none.
    fn change(
        &mut self,
        known: &mut Known,
        change: impl FnOnce(&mut [u8], &[u8]),
    ) -> Result<(), TryReserveError> {
        if known.blanked.is_null() {
            known.blanked = self.kept(copy_of(bytes(known.text))?);
        }
        // SAFETY: the copy is kept, is so long and a terminator longer, and is referred to by nothing in Rust.
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

    /// Has PostgreSQL show the blanked text.
    fn show(&mut self, known: Known) {
        if known.blanked.is_null() {
            return;
        }
        // SAFETY: the copy is a terminated string that stays until PostgreSQL has set this to something else.
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
        // SAFETY: the callback's memory belongs to this thread and stays where it is, and is registered once at a time.
        unsafe {
            if !context.is_null() && !IS_REGISTERED.replace(true) {
                CALLBACK.with(|callback| MemoryContextRegisterResetCallback(context, callback.get()));
            }
        }
    }

    fn note(&mut self, value: &[u8]) {
        if value.len() >= MOST_TRIED || redact::is_among(value, &self.tried) {
            return;
        }
        if self.tried.len() + value.len() >= MOST_TRIED {
            self.tried.zeroize();
            if let Some(known) = &mut self.known {
                known.tried = 0;
            }
        }
        // One buffer from the start: a longer one would leave this behind, unwiped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_statements_own_part() {
        let text = c"SET a.b = 1; SET prism_crypt.master_key = 'x'; SHOW c.d";
        // SAFETY: places in that string.
        let part = |location, length| &text.to_bytes()[unsafe { part(text.as_ptr(), location, length) }];
        assert_eq!(part(0, 11), b"SET a.b = 1");
        assert_eq!(part(12, 33), b" SET prism_crypt.master_key = 'x'");
        assert_eq!(part(46, 0), b" SHOW c.d");
        for (location, length) in [(-1, 0), (0, 0), (-1, 5)] {
            assert_eq!(part(location, length), text.to_bytes());
        }
    }
}
