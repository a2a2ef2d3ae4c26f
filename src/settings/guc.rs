//! Hooks of the settings: what PostgreSQL calls when a value is checked, assigned or shown.

use super::{MASTER_GENERATION, Text, keyset};
use crate::error::postgres_string;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry};
use prism_envelope::parse_keys;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;

const INVALID: &str = "invalid value for parameter \"prism_crypt.master_key\"";
const MASK: &CStr = c"********";

type KeyObserver = fn(&[u8]);

thread_local! {
    static KEY_OBSERVER: Cell<Option<KeyObserver>> = const { Cell::new(None) };
}

/// Registers a function to call with each value that a session is about to give the key setting, or a file, which may still
/// refuse it.
pub fn observe_keys(observer: KeyObserver) {
    KEY_OBSERVER.set(Some(observer));
}

/// Calls that function.
pub fn note_key(value: &[u8]) {
    if let Some(observe) = KEY_OBSERVER.get() {
        observe(value);
    }
}

/// Our functions that PostgreSQL calls when a string setting is checked, assigned and shown.
struct Hooks {
    check: pg_sys::GucStringCheckHook,
    assign: pg_sys::GucStringAssignHook,
    show: pg_sys::GucShowHook,
}

/// The setting that holds keys themselves: masked, kept out of catalogs and files, never echoed.
pub fn define_secret(name: &'static CStr, description: &'static CStr, setting: &'static Text) {
    // RESET ALL must reset it: a pool must not hand one client's key to the next.
    let flags = GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_AUTO_FILE;
    let long =
        c"Any session may set its own. Not stored by ALTER SYSTEM, ALTER ROLE, ALTER DATABASE or CREATE FUNCTION.";
    let hooks = Hooks { check: Some(check_secret), assign: Some(assign_master), show: Some(show_secret) };
    define(name, description, long, setting, GucContext::Userset, flags, hooks);
}

/// A setting that says where keys are, for superusers.
pub fn define_key_source(name: &'static CStr, description: &'static CStr, setting: &'static Text) {
    let long = c"Read when a session first needs a key, and again after a reload of the configuration.";
    let hooks = Hooks { check: None, assign: Some(assign_master), show: None };
    define(name, description, long, setting, GucContext::Suset, GucFlags::SUPERUSER_ONLY, hooks);
}

/// The setting that names the session's keyset.
pub fn define_keyset(name: &'static CStr, description: &'static CStr, setting: &'static Text) {
    let long = c"Keysets are made by prism_crypt.create_keyset().";
    let hooks = Hooks { check: Some(keyset::check), assign: Some(keyset::assign), show: None };
    // Poolers that track reported settings pass a client's keyset on to each connection they give it.
    define(name, description, long, setting, GucContext::Userset, GucFlags::REPORT, hooks);
}

fn define(
    name: &'static CStr,
    description: &'static CStr,
    long: &'static CStr,
    setting: &'static Text,
    context: GucContext,
    flags: GucFlags,
    hooks: Hooks,
) {
    // SAFETY: the hooks are guarded, and live as long as the library.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            description,
            long,
            setting,
            context,
            flags,
            hooks.check,
            hooks.assign,
            hooks.show,
        );
    }
}

/// Makes any other name under `prism_crypt.` an error. PostgreSQL 14 only warns about those that are set already.
pub fn reserve_prefix() {
    // SAFETY: plain calls with a string constant, after every setting is defined.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"prism_crypt".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"prism_crypt".as_ptr());
    }
}

/// Changes whenever the server configuration is reloaded.
#[inline]
pub fn config_generation() -> i64 {
    // SAFETY: a global that only this process writes.
    unsafe { pg_sys::PgReloadTime }
}

#[pg_guard]
unsafe extern "C-unwind" fn check_secret(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL passes a valid pointer to a null or terminated string.
    let value = unsafe { if (*new_value).is_null() { c"" } else { CStr::from_ptr(*new_value) } };
    // The statement that set it stays in pg_stat_activity until the next one begins.
    if source >= pg_sys::GucSource::PGC_S_INTERACTIVE {
        note_key(value.to_bytes());
    }
    if value.is_empty() {
        return true;
    }
    use pg_sys::GucSource::{PGC_S_DATABASE, PGC_S_DATABASE_USER, PGC_S_GLOBAL, PGC_S_TEST, PGC_S_USER};
    if [PGC_S_DATABASE, PGC_S_DATABASE_USER, PGC_S_GLOBAL, PGC_S_TEST, PGC_S_USER].contains(&source) {
        return refuse(
            "prism_crypt.master_key can't be stored in the catalogs",
            "Every role could read it there. Use prism_crypt.master_key_file, _command or _env.",
        );
    }
    match value.to_str().ok().map(parse_keys) {
        Some(Ok(keys)) if keys.is_empty() => refuse(INVALID, "It holds no key."),
        Some(Ok(_)) => true,
        Some(Err((number, error))) => refuse(INVALID, &format!("Key {number}: {error}.")),
        None => refuse(INVALID, "It is not text."),
    }
}

/// Refuses a value with a message of our own: the default one would print the value.
fn refuse(message: &str, detail: &str) -> bool {
    // SAFETY: PostgreSQL takes over these strings; they are allocated where it expects them.
    unsafe {
        pg_sys::GUC_check_errcode(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE as c_int);
        pg_sys::GUC_check_errmsg_string = postgres_string(message);
        pg_sys::GUC_check_errdetail_string = postgres_string(detail);
    }
    false
}

#[pg_guard]
unsafe extern "C-unwind" fn assign_master(_new_value: *const c_char, _extra: *mut c_void) {
    MASTER_GENERATION.fetch_add(1, Relaxed);
}

#[pg_guard]
unsafe extern "C-unwind" fn show_secret() -> *const c_char {
    if super::inline_master_key().is_some() { MASK.as_ptr() } else { c"".as_ptr() }
}
