//! Binary input and output: the raw envelope.

use crate::datatype::{encoding, load, output, text_io};
use crate::datum::{ByteaResult, Encrypted, EncryptedResult};
use crate::error::{Error, SqlResult};
use crate::plan_cache;
use crate::privilege;
use crate::varlena::Varlena;
use pgrx::datum::Internal;
use pgrx::prelude::*;
use prism_envelope::{Envelope, FORMAT_V1, armor};

/// `encrypted_text_recv(internal, oid, integer) → encrypted_text`: loads bytes that begin like an envelope or a text form;
/// encrypts anything else, as text in the client's encoding. Bytes that only begin like ciphertext are also encrypted if the
/// client works with plaintext and the role may not load.
#[pg_extern(sql = false)]
fn encrypted_text_recv(
    mut buffer: Internal,
    _type: pg_sys::Oid,
    typmod: i32,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<EncryptedResult> {
    let message = rest_of_message(&mut buffer)?;
    Ok(EncryptedResult(value_of(message, typmod, fcinfo)?))
}

fn value_of(message: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    if message.first() == Some(&FORMAT_V1) {
        if !load::is_plaintext(fcinfo, || Ok(Envelope::parse(message).is_ok()))? {
            return load::load_binary(message, typmod, fcinfo);
        }
    } else if armor::is_armored(message) && !load::is_plaintext(fcinfo, || load::is_text_form(message))? {
        return load::load_text(message, typmod, fcinfo);
    }
    plan_cache::note_constant();
    encoding::with_client_text(message, |text| text_io::seal_text(text, typmod, fcinfo))
}

/// `encrypted_text_send(encrypted_text) → bytea`: the envelope, or what `prism_crypt.output` asks for if the role may see it.
#[pg_extern(sql = false)]
fn encrypted_text_send(value: Encrypted<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<ByteaResult> {
    let shown = output::shown(value, || privilege::function_oid(fcinfo))?;
    Ok(ByteaResult(match shown {
        Some(text) => encoding::client_bytes(&text)?,
        None => Varlena::copy_of(value.bytes())?,
    }))
}

/// The unread rest of the message.
fn rest_of_message(buffer: &mut Internal) -> Result<&[u8], Error> {
    // SAFETY: PostgreSQL passes a StringInfo to every receive function; the bytes belong to it.
    unsafe {
        let message = buffer.get_mut::<pg_sys::StringInfoData>().ok_or(Error::Internal("no message"))?;
        let length = message.len - message.cursor;
        let bytes = pg_sys::pq_getmsgbytes(message, length);
        Ok(std::slice::from_raw_parts(bytes.cast::<u8>(), length.cast_unsigned() as usize))
    }
}
