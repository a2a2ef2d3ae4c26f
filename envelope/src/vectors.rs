//! Holds the code to the published test vectors, in both directions.

use crate::header::{Content, SearchTag};
use crate::{Attributes, ContextHash, DataKey, Envelope, FieldClass, KeyBytes, KeyVersion, MasterKey, armor};
use serde::Deserialize;

const ENVELOPES: &str = include_str!("../tests/vectors/envelopes.json");
const WRAPPED_KEYS: &str = include_str!("../tests/vectors/wrapped_keys.json");
const INVALID: &str = include_str!("../tests/vectors/invalid.json");

#[derive(Deserialize)]
struct EnvelopeVector {
    comment: String,
    key: String,
    key_version: u32,
    nonce: String,
    class: Option<String>,
    bytes: bool,
    context: Option<String>,
    search_tag: Option<String>,
    plaintext: String,
    envelope: String,
    text_form: String,
}

#[derive(Deserialize)]
struct WrappedKeyVector {
    comment: String,
    master_key: String,
    fingerprint: String,
    key_version: u32,
    keyset: String,
    nonce: String,
    data_key: String,
    wrapped: String,
}

#[derive(Deserialize)]
struct InvalidVector {
    comment: String,
    text_form: String,
    error: String,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn bytes<const N: usize>(text: &str) -> Result<[u8; N]> {
    hex::decode(text)?.try_into().map_err(|_| "wrong length".into())
}

impl EnvelopeVector {
    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes {
            content: if self.bytes { Content::Bytes } else { Content::Text },
            class: match &self.class {
                Some(name) => FieldClass::from_name(name).ok_or("class")?,
                None => FieldClass::None,
            },
            search_tag: match &self.search_tag {
                Some(tag) => {
                    let [generation, hash @ ..] = bytes::<{ SearchTag::LEN }>(tag)?;
                    Some(SearchTag::new(generation, hash))
                }
                None => None,
            },
            context: self.context.as_ref().map(|context| ContextHash::of(context.as_bytes())),
        })
    }

    fn check(&self) -> Result<()> {
        let version = KeyVersion::new(self.key_version).ok_or("version")?;
        let key = DataKey::new(version, &KeyBytes::parse(&self.key)?);
        let attributes = self.attributes()?;
        let plaintext = hex::decode(&self.plaintext)?;

        let mut sealed = vec![0; attributes.envelope_len(plaintext.len())];
        key.seal_with_nonce(&bytes(&self.nonce)?, &attributes, &plaintext, &mut sealed)?;
        assert_eq!(hex::encode(&sealed), self.envelope, "sealed: {}", self.comment);

        let mut text = vec![0; armor::encoded_len(version, sealed.len())];
        let length = armor::encode_into(version, &sealed, &mut text)?;
        assert_eq!(std::str::from_utf8(&text[..length])?, self.text_form, "text form: {}", self.comment);

        let mut decoded = vec![0; armor::decoded_len_estimate(length)];
        let length = armor::decode_into(&text, &mut decoded)?;
        let envelope = Envelope::parse(&decoded[..length])?;
        assert_eq!(envelope.attributes(), &attributes, "attributes: {}", self.comment);
        let mut opened = vec![0; envelope.plaintext_len()];
        key.open_into(&envelope, attributes.context.as_ref(), &mut opened)?;
        assert_eq!(opened, plaintext, "opened: {}", self.comment);
        Ok(())
    }
}

#[test]
fn envelopes() -> Result<()> {
    let vectors: Vec<EnvelopeVector> = serde_json::from_str(ENVELOPES)?;
    assert!(vectors.len() >= 8);
    vectors.iter().try_for_each(EnvelopeVector::check)
}

#[test]
fn wrapped_keys() -> Result<()> {
    let vectors: Vec<WrappedKeyVector> = serde_json::from_str(WRAPPED_KEYS)?;
    assert!(vectors.len() >= 2);
    for vector in vectors {
        let version = KeyVersion::new(vector.key_version).ok_or("version")?;
        let master = MasterKey::new(&KeyBytes::parse(&vector.master_key)?);
        let data_key = KeyBytes::parse(&vector.data_key)?;
        assert_eq!(master.fingerprint().to_string(), vector.fingerprint, "{}", vector.comment);
        let wrapped = master.wrap_with_nonce(&bytes(&vector.nonce)?, version, &vector.keyset, &data_key);
        assert_eq!(hex::encode(wrapped), vector.wrapped, "{}", vector.comment);
        let unwrapped = master.unwrap(version, &vector.keyset, &wrapped)?;
        assert_eq!(*unwrapped.to_hex(), vector.data_key, "{}", vector.comment);
    }
    Ok(())
}

#[test]
fn invalid_text_forms() -> Result<()> {
    let vectors: Vec<InvalidVector> = serde_json::from_str(INVALID)?;
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let mut out = vec![0; armor::decoded_len_estimate(vector.text_form.len())];
        let error =
            armor::decode_into(vector.text_form.as_bytes(), &mut out).err().map(|error| error.to_string());
        assert_eq!(error, Some(vector.error), "{}", vector.comment);
    }
    Ok(())
}
