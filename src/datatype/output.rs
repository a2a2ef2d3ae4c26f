//! Output, which `prism_crypt.output` controls, and conversions, which it does not affect.

use crate::datatype::reading::{open_masked, open_text, open_without_context};
use crate::datatype::{dump, plan_output};
use crate::datum::Encrypted;
use crate::error::Error;
use crate::keyring;
use crate::privilege::{self, Right};
use crate::settings::{self, Output};
use crate::varlena::Varlena;
use pgrx::pg_sys;
use prism_envelope::KeyVersion;
use std::cell::Cell;

thread_local! {
    static VALUES_SHOWN: Cell<Option<ValuesShown>> = const { Cell::new(None) };
    /// The key version of the last value that was opened, and whether any was of another keyset than the session's.
    static OPENED_VERSION: Cell<Option<KeyVersion>> = const { Cell::new(None) };
    static OF_OTHER_KEYSET: Cell<bool> = const { Cell::new(false) };
}

/// How the values of an export are put out, also those inside of others, whatever `prism_crypt.output` is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ValuesShown {
    Ciphertext,
    /// The plaintext, or an error.
    Opened,
}

/// While it is there, values are shown in a certain way.
pub struct ValueOutput(Option<ValuesShown>);

impl ValueOutput {
    /// Begins it.
    pub fn begin(shown: ValuesShown) -> Self {
        Self(VALUES_SHOWN.replace(Some(shown)))
    }
}

fn note_keyset(version: KeyVersion) -> Result<(), Error> {
    if OPENED_VERSION.get() != Some(version) {
        OPENED_VERSION.set(Some(version));
        if !keyring::search_tags::is_of_session_keyset(version)? {
            OF_OTHER_KEYSET.set(true);
        }
    }
    Ok(())
}

/// Whether values of other keysets than the session's were opened since the last call.
pub fn opened_of_other_keysets() -> bool {
    OPENED_VERSION.set(None);
    OF_OTHER_KEYSET.replace(false)
}

impl Drop for ValueOutput {
    fn drop(&mut self) {
        VALUES_SHOWN.set(self.0);
    }
}

/// The text to show instead of the ciphertext, in the server's encoding; `None` means the ciphertext.
///
/// `output_function` gives the OID of the running output or send function.
pub fn shown(
    value: Encrypted<'_>,
    output_function: impl Fn() -> pg_sys::Oid,
) -> Result<Option<Varlena>, Error> {
    if let Some(shown) = VALUES_SHOWN.get() {
        return match shown {
            ValuesShown::Ciphertext => Ok(None),
            ValuesShown::Opened if may_decrypt(output_function()) => {
                let envelope = value.envelope()?;
                note_keyset(envelope.key_version())?;
                open_without_context(envelope).map(Some)
            }
            ValuesShown::Opened => Err(Error::DecryptDenied),
        };
    }
    let mode = mode();
    if mode == Output::Ciphertext || plan_output::is_running() {
        return Ok(None);
    }
    let envelope = value.envelope()?;
    // A value that needs its context can't be opened here: an output function has none to give.
    if envelope.context().is_some() {
        return Ok(None);
    }
    match mode {
        Output::Plaintext if may_decrypt(output_function()) => open_text(envelope, None).map(Some),
        Output::Masked if privilege::may(Right::Mask(output_function())) => {
            open_masked(envelope, None).map(Some)
        }
        _ => Ok(None),
    }
}

/// Output of a walsender or of a dump leaves the server although nobody asked for plaintext; that of a logical replication worker goes to
/// the log, when PostgreSQL describes conflicting rows.
fn mode() -> Output {
    match settings::output() {
        Output::Ciphertext => Output::Ciphertext,
        _ if privilege::is_walsender() || privilege::is_logical_worker() || dump::is_running() => {
            Output::Ciphertext
        }
        other => other,
    }
}

/// Whether the client works with plaintext: output shows it, and the role may see it.
///
/// `output_function` is the OID of the type's output function.
pub fn is_plaintext(output_function: pg_sys::Oid) -> bool {
    mode() == Output::Plaintext && may_decrypt(output_function)
}

/// The same for `encrypted_text` or a domain over it.
pub fn is_plaintext_for(value_type: pg_sys::Oid) -> bool {
    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: a catalog look-up; the type has an output function.
    unsafe { pg_sys::getTypeOutputInfo(value_type, &mut function, &mut is_varlena) };
    is_plaintext(function)
}

/// The text of a value that is converted to another type, in the server's encoding. As with the cast to text, it is the
/// plaintext or an error, whatever `prism_crypt.output` is.
///
/// `output_function` is the OID of the running output function.
pub fn converted(value: Encrypted<'_>, output_function: pg_sys::Oid) -> Result<Varlena, Error> {
    if !may_decrypt(output_function) {
        return Err(Error::DecryptDenied);
    }
    open_without_context(value.envelope()?)
}

fn may_decrypt(output_function: pg_sys::Oid) -> bool {
    privilege::may(Right::Decrypt(output_function))
}
