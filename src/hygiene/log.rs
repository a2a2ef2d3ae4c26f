//! Withholds keys and plaintext from messages on their way to the server log and the client.
//!
//! PostgreSQL logs statements before any of them runs (`log_statement`), so this is the only place that sees them all.
//! Fields are overwritten in place: they are the message's private copies. No PostgreSQL memory is allocated while an error is
//! being reported.

use super::client_text::{self, ClientText};
use super::lexer::Dialect;
use super::naming::{self, Mentions};
use super::redact::{self, cut_from, edit, overwrite, overwrite_key_values};
use super::{copy_statement, denied_hint, level, likely_key};
use crate::settings;
use crate::sqlstate::{is_of_class, sqlstate};
use memchr::memmem;
use pgrx::{PgLogLevel, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use zeroize::Zeroizing;

/// Error classes and codes in whose detail PostgreSQL describes a row.
const INTEGRITY_CONSTRAINT_VIOLATION: i32 = sqlstate(*b"23000");
const WITH_CHECK_OPTION_VIOLATION: i32 = sqlstate(*b"44000");

/// How auto_explain labels a statement that it quotes, in every language.
const QUOTED_QUERY: [&[u8]; 2] = [b"Query Text: \"", b"\"Query Text\": \""];

/// The untranslated message in PostgreSQL's source (`deadlock.c`).
const DEADLOCK: &CStr = c"deadlock detected";

thread_local! {
    static NEXT: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(withhold);
    }
}

/// Not guarded: nothing in it can panic or raise an error, and errors must not be raised while one is reported.
unsafe extern "C-unwind" fn withhold(error: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL passes the message that it is about to emit.
    unsafe {
        withhold_keys(&mut *error);
        copy_statement::withhold(&mut *error);
        withhold_shown_plaintext(&mut *error);
        // PostgreSQL frees the hint of lesser messages.
        if (*error).elevel >= PgLogLevel::ERROR as i32 {
            denied_hint::explain(&mut *error);
        }
        if level::is_for_the_client_only(&*error) {
            (*error).output_to_server = false;
            return;
        }
        if let Some(next) = NEXT.get() {
            next(error);
        }
    }
}

/// Removes the keys from the statement and from every field.
///
/// # Safety
/// The fields of `error` are null or terminated strings in memory that the message owns.
unsafe fn withhold_keys(error: &mut pg_sys::ErrorData) {
    let fields =
        [error.message, error.detail, error.detail_log, error.hint, error.context, error.internalquery];
    let looked = client_text::look(|client| {
        let mut context = Mentions::default();
        // SAFETY: as promised by the caller.
        unsafe {
            let is_deadlock = !error.message_id.is_null() && CStr::from_ptr(error.message_id) == DEADLOCK;
            for field in fields {
                let of_processes = is_deadlock && field == error.detail_log;
                edit(field, |text| match of_processes {
                    true => withhold_of_processes(text, client),
                    false if field == error.context => context = withhold_in(text, client),
                    false => _ = withhold_in(text, client),
                });
            }
        }
        context.file_call && !client.mentions.file_call
    });
    // What happens in a function that takes the key of a file: the client may have given the key to another one, which calls it.
    let is_blanked = looked.is_some_and(|is_called| !is_called || client_text::blank_likely_keys());
    if !is_blanked {
        error.hide_stmt = true;
    }
}

/// Removes the keys from one field, which may end with the client's statement or quote it. Returns what else it mentions.
fn withhold_in(text: &mut [u8], client: &ClientText<'_>) -> Mentions {
    let statement = client.text.filter(|statement| !statement.is_empty());
    let quoted = statement.and_then(|statement| {
        if text.ends_with(statement) {
            Some(text.len() - statement.len()..text.len())
        } else {
            let is_possible = client.blanked.is_some() && text.len() > statement.len();
            let at = is_possible.then(|| memmem::find(text, statement))??;
            Some(at..at + statement.len())
        }
    });
    let mentions = match quoted {
        Some(quoted) => {
            if let Some(blanked) = client.blanked {
                text[quoted.clone()].copy_from_slice(blanked);
            }
            withhold_of(&mut text[..quoted.start], client);
            withhold_of(&mut text[quoted.end..], client)
        }
        None => withhold_of(text, client),
    };
    let inline = settings::inline_master_key().map_or(&[][..], CStr::to_bytes);
    redact::overwrite_keys(text, inline);
    redact::overwrite_keys(text, client.tried);
    mentions
}

/// The statements of several sessions, as a deadlock error lists them. A quote left open in one must not go on in the next.
fn withhold_of_processes(mut text: &mut [u8], client: &ClientText<'_>) {
    while !text.is_empty() {
        let (part, rest) = text.split_at_mut(redact::next_process(text).unwrap_or(text.len()));
        withhold_in(
            part,
            &ClientText { mentions: Mentions::default(), text: None, blanked: None, ..*client },
        );
        text = rest;
    }
}

/// What is not the statement itself: a message about it, or what ran inside it. Returns what it mentions.
fn withhold_of(text: &mut [u8], client: &ClientText<'_>) -> Mentions {
    // auto_explain in JSON and YAML.
    let json = QUOTED_QUERY.iter().any(|name| memmem::find(text, name).is_some());
    let dialect = Dialect { json, prose: true, ..client_text::dialect() };
    let found = naming::mentions(text, dialect);
    if found.any() {
        let mut copy = Zeroizing::new(Vec::new());
        if copy.try_reserve_exact(text.len()).is_err() {
            overwrite(text);
            return found;
        }
        copy.extend_from_slice(text);
        naming::blank(&copy, text, dialect, &|_| Mentions::default());
    }
    if found.setting || client.mentions.setting {
        redact::blank_key_like(text);
        redact::blank_number_lists(text);
    } else if found.file_call || client.mentions.file_call {
        likely_key::blank_likely_keys(text);
        redact::blank_number_lists(text);
    }
    if client.mentions.any() {
        let Mentions { setting, file_keys, .. } = client.mentions;
        redact::blank_parameters(text, |number| setting || file_keys.contains(number));
    }
    found
}

/// The messages of PostgreSQL's source whose details name keys of constraints and their values, and nothing else of a row.
const ABOUT_KEYS: [&CStr; 7] = [
    c"duplicate key value violates unique constraint \"%s\"",
    c"could not create unique index \"%s\"",
    c"insert or update on table \"%s\" violates foreign key constraint \"%s\"",
    c"update or delete on table \"%s\" violates foreign key constraint \"%s\" on table \"%s\"",
    c"removing partition \"%s\" violates foreign key constraint \"%s\"",
    c"conflicting key value violates exclusion constraint \"%s\"",
    c"could not create exclusion constraint \"%s\"",
];

/// # Safety
/// `message_id` is null or terminated.
unsafe fn is_about_keys(message_id: *const c_char) -> bool {
    // SAFETY: as promised by the caller.
    !message_id.is_null() && ABOUT_KEYS.contains(&unsafe { CStr::from_ptr(message_id) })
}

/// Withholds plaintext that the session's output shows: PostgreSQL puts rows into constraint errors, and parameters into
/// the log, through the output functions.
///
/// # Safety
/// As for [`withhold_keys`].
unsafe fn withhold_shown_plaintext(error: &mut pg_sys::ErrorData) {
    if !settings::may_show_plaintext() {
        return;
    }
    // SAFETY: as promised by the caller.
    unsafe {
        if is_of_class(error.sqlerrcode, INTEGRITY_CONSTRAINT_VIOLATION)
            || error.sqlerrcode == WITH_CHECK_OPTION_VIOLATION
        {
            let withhold = if is_about_keys(error.message_id) { overwrite_key_values } else { overwrite };
            edit(error.detail, withhold);
            edit(error.detail_log, withhold);
        }
        for field in [error.detail, error.detail_log, error.context] {
            edit(field, |text| cut_from(text, b"$1 = "));
        }
    }
}
