//! Casts. From text always encrypts; to text decrypts, and needs that privilege; to itself applies the type modifier.

use crate::datatype::datum::{Bytea, ByteaResult, Encrypted, EncryptedResult, Text, TextResult};
use crate::datatype::reading::open_text;
use crate::datatype::{load, text_io, typmod};
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::{Attributes, FieldClass};

/// `encrypted_text(text, integer, boolean) → encrypted_text`: encrypts, whatever the text looks like.
#[pg_extern(sql = false)]
fn text_to_encrypted_text(plaintext: Text<'_>, typmod: i32, _explicit: bool) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(text_io::seal_text(plaintext.0.bytes(), typmod)?))
}

/// `encrypted_text(encrypted_text, integer, boolean) → encrypted_text`: gives a value without a class the class of the
/// column, sealed anew. A value of that class stays as it is; one of another class is refused.
#[pg_extern(sql = false)]
fn apply_encrypted_text_typmod(
    value: Encrypted<'_>,
    typmod: i32,
    _explicit: bool,
) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(with_class(value, typmod)?))
}

fn with_class(value: Encrypted<'_>, typmod: i32) -> Result<Varlena, Error> {
    let envelope = value.envelope()?;
    let found = envelope.attributes().class;
    match typmod::class_of(typmod) {
        Some(class) if found == FieldClass::None => {
            keyring::reseal(&envelope, &Attributes { class, ..*envelope.attributes() })
        }
        Some(class) if found != class => Err(Error::ClassMismatch {
            found: typmod::class_name(found),
            expected: typmod::class_name(class),
        }),
        _ => Varlena::copy_of(value.bytes()),
    }
}

/// `text(encrypted_text) → text`: the implicit cast.
#[pg_extern(sql = false)]
fn encrypted_text_to_text(value: Encrypted<'_>) -> SqlResult<TextResult> {
    Ok(TextResult(open_text(value.envelope()?, None)?))
}

/// `encrypted_text(bytea, integer, boolean) → encrypted_text`: loads an envelope, for roles that may load.
#[pg_extern(sql = false)]
fn bytea_to_encrypted_text(envelope: Bytea<'_>, typmod: i32, _explicit: bool) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(load::load_binary(envelope.0.bytes(), typmod)?))
}

/// `bytea(encrypted_text) → bytea`: the envelope.
#[pg_extern(sql = false)]
fn encrypted_text_to_bytea(value: Encrypted<'_>) -> SqlResult<ByteaResult> {
    Ok(ByteaResult(Varlena::copy_of(value.bytes())?))
}
