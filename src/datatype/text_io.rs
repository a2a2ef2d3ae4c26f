//! Text input and output.

use crate::bare_call::sql_function;
use crate::datatype::conversion::{self, Purpose};
use crate::datatype::{encoding, load, output, typmod, unseen_change};
use crate::datum::{CStringResult, Encrypted, EncryptedResult};
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::plan_cache;
use crate::privilege;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::armor;
use std::ffi::{CStr, c_char};

sql_function!(
    encrypted_text_in_wrapper,
    pg_finfo_encrypted_text_in_wrapper,
    sealed_if_ready,
    encrypted_text_in_any_wrapper
);

/// The usual case of [`encrypted_text_in_any`]: a plaintext that enters, for a role that is known to have the right.
///
/// # Safety
/// A call of the type's input function.
#[inline(always)]
unsafe fn sealed_if_ready(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller: a terminated string and a type modifier.
    let (text, typmod) = unsafe {
        let arguments = (*fcinfo).args.as_ptr();
        let text = (*arguments).value.cast_mut_ptr::<c_char>();
        (CStr::from_ptr(text).to_bytes(), (*arguments.add(2)).value.value() as i32)
    };
    if conversion::has_expression(fcinfo) || armor::is_armored(text) {
        return None;
    }
    let sealed = seal_text_if_ready(text, typmod)?;
    plan_cache::note_constant();
    Some(sealed.datum())
}

/// [`seal_text`] for a column that is not searchable, where nothing has to be loaded, looked up or converted. See
/// [`keyring::seal_if_ready`] for what must hold.
#[inline]
pub fn seal_text_if_ready(text: &[u8], typmod: i32) -> Option<Varlena> {
    let attributes = typmod::attributes_of(typmod);
    if attributes.search_tag.is_some() || !encoding::server_is_utf8() || !privilege::is_known_to_encrypt() {
        return None;
    }
    keyring::seal_if_ready(&attributes, text)
}

/// `encrypted_text_in(cstring, oid, integer) → encrypted_text`: loads a text form, and encrypts any other text. As the second
/// half of a conversion it is a cast, and never loads.
#[pg_extern(sql = false)]
fn encrypted_text_in_any(
    input: &CStr,
    _type: pg_sys::Oid,
    typmod: i32,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(value_of(input.to_bytes(), typmod, fcinfo)?))
}

fn value_of(text: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    match Purpose::of(fcinfo) {
        Purpose::Conversion(source) => {
            conversion::check_source(source)?;
            return seal_cast(text, typmod, fcinfo);
        }
        Purpose::Transport
            if armor::is_armored(text) && !load::is_plaintext(fcinfo, || load::is_text_form(text))? =>
        {
            return load::load_text(text, typmod, fcinfo);
        }
        // A call that was stored in a view looks the same. So, like the conversion it stands for, it loads nothing and seals
        // no ciphertext.
        Purpose::Estimate => {
            plan_cache::note_constant();
            return seal_cast(text, typmod, fcinfo);
        }
        Purpose::Transport => {}
    }
    plan_cache::note_constant();
    seal_text(text, typmod, fcinfo)
}

/// Seals a text for a cast, like [`seal_text`]. Refuses ciphertext: sealed a second time, it could not be found again.
pub fn seal_cast(text: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    if load::is_text_form(text)? {
        return Err(Error::SealedAlready);
    }
    seal_text(text, typmod, fcinfo)
}

/// Seals a text in the server's encoding under the session's keyset, for a column with this type modifier. `fcinfo` is the
/// running call of a function of this extension.
pub fn seal_text(text: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    privilege::require_encrypt(fcinfo)?;
    let attributes = typmod::attributes_of(typmod);
    if attributes.search_tag.is_some() {
        privilege::require_search(fcinfo)?;
    }
    encoding::with_utf8(text, |text| keyring::seal(None, &attributes, text))
}

/// `encrypted_text_out(encrypted_text) → cstring`: the text form, or what `prism_crypt.output` asks for if the role may see it.
/// As the first half of a conversion it is a cast, and returns the plaintext.
#[pg_extern(sql = false)]
fn encrypted_text_out(value: Encrypted<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<CStringResult> {
    let text = match Purpose::of(fcinfo) {
        Purpose::Transport => output::shown(value, || privilege::function_oid(fcinfo))?,
        Purpose::Conversion(_) | Purpose::Estimate => {
            unseen_change::check(fcinfo)?;
            Some(output::converted(value, privilege::function_oid(fcinfo))?)
        }
    };
    Ok(match text {
        Some(text) => cstring_of(&text)?,
        None => text_form(value)?,
    })
}

fn text_form(value: Encrypted<'_>) -> Result<CStringResult, Error> {
    let envelope = value.envelope()?;
    let version = envelope.key_version();
    CStringResult::write(armor::encoded_len(version, value.bytes().len()), |out| {
        armor::encode_into(version, value.bytes(), out).map_err(Error::TextForm)
    })
}

fn cstring_of(text: &Varlena) -> Result<CStringResult, Error> {
    let text = text.bytes();
    CStringResult::write(text.len(), |out| {
        out.copy_from_slice(text);
        Ok(text.len())
    })
}
