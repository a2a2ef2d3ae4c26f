//! A value's text form.

use crate::error::{Error, Result};
use prism_envelope::armor::{ArmorError, decode_into, decoded_len_estimate};
use prism_envelope::{Content, Envelope, KeyVersion};
use serde::Serialize;
use std::fmt;

/// What anybody can read of a value.
#[derive(Debug, Serialize)]
pub struct Value {
    pub key_version: u32,
    pub class: Option<&'static str>,
    /// `text` or `bytes`.
    pub content: &'static str,
    /// The generation of the index key that made its search tag.
    pub search_tag_generation: Option<u8>,
    pub has_context: bool,
    /// Of the plaintext.
    pub length: usize,
}

impl Value {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`Error::TextForm`].
    pub fn of(text: &[u8]) -> Result<Self> {
        let mut bytes = vec![0; decoded_len_estimate(text.len())];
        let length = decode_into(text, &mut bytes)?;
        let envelope = Envelope::parse(bytes.get(..length).unwrap_or_default());
        let envelope = envelope.map_err(|error| Error::TextForm(ArmorError::Format(error)))?;
        let attributes = envelope.attributes();
        Ok(Self {
            key_version: envelope.key_version().get(),
            class: attributes.class.name(),
            content: match attributes.content {
                Content::Text => "text",
                Content::Bytes => "bytes",
            },
            search_tag_generation: attributes.search_tag.map(|tag| tag.generation()),
            has_context: attributes.context.is_some(),
            length: envelope.plaintext_len(),
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "encrypted value, AES-256-GCM")?;
        writeln!(f, "key version: {}", self.key_version)?;
        writeln!(f, "class:       {}", self.class.unwrap_or("none"))?;
        writeln!(f, "content:     {}, {} bytes", self.content, self.length)?;
        match self.search_tag_generation {
            Some(generation) => writeln!(f, "search tag:  of index key generation {generation}")?,
            None => writeln!(f, "search tag:  none")?,
        }
        writeln!(f, "context:     {}", if self.has_context { "bound to one" } else { "none" })
    }
}

/// The key version of a text form, if it is one.
pub fn key_version(text: &[u8]) -> Option<u32> {
    Value::of(text).ok().map(|value| value.key_version)
}

/// The key version of bytes that `encrypt_bytes()` made.
pub fn key_version_of_bytes(bytes: &[u8]) -> Option<KeyVersion> {
    let envelope = Envelope::parse(bytes).ok()?;
    (envelope.attributes().content == Content::Bytes).then(|| envelope.key_version())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Value;
    use prism_envelope::{
        Attributes, ContextHash, DataKey, FieldClass, KeyBytes, KeyVersion, NonceOwner, NoncePool, SearchTag,
        armor,
    };

    #[test]
    fn what_is_in_a_value() {
        let attributes = Attributes {
            class: FieldClass::Email,
            context: Some(ContextHash::of(b"row 7")),
            search_tag: Some(SearchTag::new(3, [9; 16])),
            ..Attributes::default()
        };
        let version = KeyVersion::new(42).unwrap();
        let key = DataKey::new(version, &KeyBytes::generate().unwrap());
        let mut sealed = vec![0; attributes.envelope_len(5)];
        let owner = NonceOwner { process_id: 1, transaction: 1 };
        key.seal_into(&mut NoncePool::new(), owner, &attributes, b"hello", &mut sealed).unwrap();
        let mut text = vec![0; armor::encoded_len(version, sealed.len())];
        armor::encode_into(version, &sealed, &mut text).unwrap();
        let value = Value::of(&text).unwrap();
        assert_eq!(
            (value.key_version, value.class, value.content, value.search_tag_generation),
            (42, Some("email"), "text", Some(3))
        );
        assert_eq!((value.has_context, value.length), (true, 5));
        text.pop();
        assert!(Value::of(&text).is_err());
    }
}
