//! The settings (`prism_crypt.*`): declared, watched and read only here. `docs/settings.md` describes them.
//!
//! [`init`] declares them; `guc` has the hooks that PostgreSQL calls when one is checked, assigned or shown. A key is shown to
//! nobody and stored nowhere, and its check hook tells an observer (`hygiene`, a higher layer, which can't be called from here).
//! Other modules read a setting through a function here, and `setter` decides whether the value counts: what a session sets must
//! not change what runs with the rights of another role. `keyset` gives the keyset that values are sealed under now. Whatever is
//! cached by a setting compares its generation.

mod guc;
mod keyset;
mod setter;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use std::ffi::{CStr, CString};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub use guc::{config_generation, note_key, observe_keys};
pub use keyset::{keyset, keyset_generation};
use setter::Record;

/// Name of the setting that holds a key itself.
pub const MASTER_KEY: &str = "prism_crypt.master_key";
/// Name of the setting with a command that prints the key.
pub const MASTER_KEY_COMMAND: &str = "prism_crypt.master_key_command";
/// Name of the setting with a file that holds the key.
pub const MASTER_KEY_FILE: &str = "prism_crypt.master_key_file";
/// Name of the setting with an environment variable that holds the key.
pub const MASTER_KEY_ENV: &str = "prism_crypt.master_key_env";

/// A setting whose value is a string.
type Text = GucSetting<Option<CString>>;

static INLINE: Text = GucSetting::<Option<CString>>::new(None);
static COMMAND: Text = GucSetting::<Option<CString>>::new(None);
static FILE: Text = GucSetting::<Option<CString>>::new(None);
static ENV: Text = GucSetting::<Option<CString>>::new(None);
static MASTER_KEY_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static KEYSET: Text = GucSetting::<Option<CString>>::new(Some(keyset::DEFAULT));
/// Only SQL reads it, with `current_setting()`.
static DEBUG_STOP_AT: Text = GucSetting::<Option<CString>>::new(None);
static ENFORCE_SEAL_LIMIT: GucSetting<bool> = GucSetting::<bool>::new(true);
static OUTPUT: GucSetting<Output> = GucSetting::<Output>::new(Output::Ciphertext);
static RESULT_TYPE: GucSetting<ResultType> = GucSetting::<ResultType>::new(ResultType::Text);

static MASTER_KEY_RECORD: Record = Record::new();
static KEYSET_RECORD: Record = Record::new();
static OUTPUT_RECORD: Record = Record::new();

/// What the output functions of `encrypted_text` return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(missing_docs, reason = "the variants are the values of the setting")]
pub enum Output {
    #[name = c"ciphertext"]
    Ciphertext,
    #[name = c"plaintext"]
    Plaintext,
    #[name = c"masked"]
    Masked,
}

/// What the columns of a result are announced as where output is plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(missing_docs, reason = "the variants are the values of the setting")]
pub enum ResultType {
    #[name = c"text"]
    Text,
    #[name = c"encrypted_text"]
    EncryptedText,
}

/// Grows whenever a master-key setting is assigned, so that a cache can tell that it is outdated.
static MASTER_GENERATION: AtomicU64 = AtomicU64::new(0);

/// The value of a setting where PostgreSQL keeps it; unset and empty are `None`. No copy is made: a copy of a key would
/// not be wiped. The value stays valid until the setting is assigned again, so callers must not hold on to it.
fn borrow(setting: &'static Text) -> Option<&'static CStr> {
    // SAFETY: the variable of a string setting is null or a string that PostgreSQL terminated.
    let value = unsafe {
        let variable = setting.as_ptr();
        if (*variable).is_null() { None } else { Some(CStr::from_ptr(*variable)) }
    };
    value.filter(|value| !value.is_empty())
}

/// Declares every setting and reserves the prefix.
pub fn init() {
    guc::define_secret(
        c"prism_crypt.master_key",
        c"Master keys: 64 hexadecimal digits or base64 of 32 bytes, separated by line breaks or commas.",
        &INLINE,
    );
    guc::define_key_source(
        c"prism_crypt.master_key_command",
        c"Shell command that prints the master keys, one a line.",
        &COMMAND,
    );
    guc::define_key_source(
        c"prism_crypt.master_key_file",
        c"File that holds the master keys, one a line.",
        &FILE,
    );
    guc::define_key_source(
        c"prism_crypt.master_key_env",
        c"Name of the server's environment variable that holds the master keys.",
        &ENV,
    );
    GucRegistry::define_int_guc(
        c"prism_crypt.master_key_timeout",
        c"How long prism_crypt.master_key_command may take.",
        c"0 is no limit.",
        &MASTER_KEY_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    guc::define_keyset(c"prism_crypt.keyset", c"Keyset whose active data key seals new values.", &KEYSET);
    GucRegistry::define_enum_guc(
        c"prism_crypt.output",
        c"What encrypted_text shows: ciphertext, plaintext or masked text.",
        c"Plaintext and masked text are shown to roles with that privilege only; others see ciphertext.",
        &OUTPUT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"prism_crypt.result_type",
        c"What encrypted columns of a client's results are announced as where it reads plaintext: text or encrypted_text.",
        c"Arrays are announced as text[]. Applies to the statements of the client, not to those in functions and views.",
        &RESULT_TYPE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"prism_crypt.enforce_seal_limit",
        c"Refuses to seal with a data key that has sealed 2^32 values.",
        c"More would make a repeated nonce too likely. While it is off, there is only a warning.",
        &ENFORCE_SEAL_LIMIT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"prism_crypt.debug_stop_at",
        c"For tests: a column that is being moved stops before this phase, until the session is killed.",
        c"",
        &DEBUG_STOP_AT,
        GucContext::Userset,
        GucFlags::NO_SHOW_ALL,
    );
    guc::reserve_prefix();
    MASTER_KEY_RECORD.find(c"prism_crypt.master_key");
    KEYSET_RECORD.find(c"prism_crypt.keyset");
    OUTPUT_RECORD.find(c"prism_crypt.output");
    keyset::init();
}

/// What the output functions return: ciphertext, unless the setting counts under the current role.
#[inline]
pub fn output() -> Output {
    match OUTPUT.get() {
        Output::Ciphertext => Output::Ciphertext,
        other if OUTPUT_RECORD.counts() => other,
        _ => Output::Ciphertext,
    }
}

/// Whether encrypted columns may be announced as text when output is plaintext.
#[inline]
pub fn results_may_be_text() -> bool {
    RESULT_TYPE.get() == ResultType::Text
}

/// Whether the session may be shown anything but ciphertext.
pub fn may_show_plaintext() -> bool {
    OUTPUT.get() != Output::Ciphertext
}

/// Whether a data key that has reached its seal limit must seal nothing more.
pub fn enforces_seal_limit() -> bool {
    ENFORCE_SEAL_LIMIT.get()
}

/// The first master-key source that is set: the name of its setting, and its value.
pub fn master_key_source() -> Option<(&'static str, &'static CStr)> {
    [(MASTER_KEY, &INLINE), (MASTER_KEY_COMMAND, &COMMAND), (MASTER_KEY_FILE, &FILE), (MASTER_KEY_ENV, &ENV)]
        .into_iter()
        .find_map(|(name, setting)| Some((name, borrow(setting)?)))
}

/// Whether other sessions of the database have this session's master key, too.
pub fn master_key_is_common() -> bool {
    master_key_source()
        .and_then(|(name, _)| CString::new(name).ok())
        .is_some_and(|name| setter::is_common(&name))
}

/// The role that chose the master key in use, if a session chose it.
pub fn master_key_chosen_by() -> Option<pg_sys::Oid> {
    borrow(&INLINE).and_then(|_| MASTER_KEY_RECORD.chosen_by())
}

/// How long the command that prints the master keys may take; `None` means no limit.
pub fn master_key_timeout() -> Option<Duration> {
    u64::try_from(MASTER_KEY_TIMEOUT.get()).ok().filter(|limit| *limit > 0).map(Duration::from_millis)
}

/// The inline master key as it was set. For redaction only.
pub fn inline_master_key() -> Option<&'static CStr> {
    borrow(&INLINE)
}

/// Changes whenever a master-key setting is assigned.
#[inline]
pub fn master_generation() -> u64 {
    MASTER_GENERATION.load(Relaxed)
}
