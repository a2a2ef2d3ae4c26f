//! Checks the code against the published test vectors, in both directions.

use crate::file::{KeySource, Opener};
use crate::header::{Content, SearchTag};
use crate::{
    Attributes, ContextHash, DataKey, Envelope, FieldClass, IndexKey, KeyBytes, KeyIdentity, KeyVersion,
    MasterKey, armor,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::io::Read;

const ENVELOPES: &str = include_str!("../tests/vectors/envelopes.json");
const INDEX_KEYS: &str = include_str!("../tests/vectors/index_keys.json");
const WRAPPED_KEYS: &str = include_str!("../tests/vectors/wrapped_keys.json");
const FILES: &str = include_str!("../tests/vectors/files.json");
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
    key_version: Option<u32>,
    generation: Option<u8>,
    keyset: String,
    nonce: String,
    key: String,
    format: u8,
    wrapped: String,
}

#[derive(Deserialize)]
struct IndexKeyVector {
    comment: String,
    index_key: String,
    generation: u8,
    plaintext: String,
    context: Option<String>,
    bits: usize,
    search_tag: String,
    blind_index: String,
}

#[derive(Deserialize)]
struct FileVector {
    comment: String,
    key: String,
    /// What wraps the key in the header, if something does.
    master_key: Option<String>,
    version: u8,
    content_type: Option<String>,
    length: usize,
    file: String,
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
        assert_eq!(envelope.attributes(), attributes, "attributes: {}", self.comment);
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
        let identity = match (vector.key_version.and_then(KeyVersion::new), vector.generation) {
            (Some(version), None) => KeyIdentity::Data(version, &vector.keyset),
            (None, Some(generation)) => KeyIdentity::Index(generation, &vector.keyset),
            _ => KeyIdentity::File,
        };
        let master = MasterKey::new(&KeyBytes::parse(&vector.master_key)?);
        let key = KeyBytes::parse(&vector.key)?;
        assert_eq!(master.fingerprint().to_string(), vector.fingerprint, "{}", vector.comment);
        let mut wrapped = hex::decode(&vector.wrapped)?;
        // The first format is not written any more.
        if vector.format == 2 {
            let made = master.wrap_with_nonce(&bytes(&vector.nonce)?, identity, &key);
            assert_eq!(hex::encode(made), vector.wrapped, "{}", vector.comment);
        }
        let unwrapped = master.unwrap(identity, &wrapped)?;
        assert_eq!(*unwrapped.to_hex(), vector.key, "{}", vector.comment);
        for other in [
            KeyIdentity::Data(KeyVersion::new(3).ok_or("version")?, &vector.keyset),
            KeyIdentity::Index(3, &vector.keyset),
            KeyIdentity::Index(1, "another"),
        ] {
            assert!(master.unwrap(other, &wrapped).is_err(), "{}", vector.comment);
        }
        // No format is another one with a piece taken away or added.
        wrapped.resize(if vector.format == 2 { 61 } else { 93 }, 0);
        wrapped[0] = 3 - vector.format;
        assert!(master.unwrap(identity, &wrapped).is_err(), "{}", vector.comment);
    }
    Ok(())
}

#[test]
fn index_keys() -> Result<()> {
    let vectors: Vec<IndexKeyVector> = serde_json::from_str(INDEX_KEYS)?;
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let key = IndexKey::new(vector.generation, &KeyBytes::parse(&vector.index_key)?)?;
        let plaintext = hex::decode(&vector.plaintext)?;
        let tag = key.search_tag(&plaintext);
        assert_eq!(hex::encode(tag.as_bytes()), vector.search_tag, "{}", vector.comment);
        assert_eq!((tag.generation(), tag.hash().len()), (vector.generation, 16));
        let context = vector.context.as_ref().map(String::as_bytes);
        let index = key.blind_index(&plaintext, context, vector.bits).ok_or("bits")?;
        assert_eq!(hex::encode(index), vector.blind_index, "{}", vector.comment);
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

/// Files that another program has written.
#[test]
fn files() -> Result<()> {
    let vectors: Vec<FileVector> = serde_json::from_str(FILES)?;
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let file = STANDARD.decode(&vector.file)?;
        let key = KeyBytes::parse(&vector.key)?;
        let opener = Opener::new(file.as_slice())?;
        assert_eq!(opener.version(), vector.version, "{}", vector.comment);
        let content_type = opener.header().map(|header| header.content_type.clone());
        assert_eq!(content_type, vector.content_type, "{}", vector.comment);
        if let Some(master) = &vector.master_key {
            let Some(KeySource::Wrapped { wrapped, .. }) = opener.header().map(|header| header.key.clone())
            else {
                return Err(vector.comment.into());
            };
            let unwrapped = MasterKey::new(&KeyBytes::parse(master)?)
                .unwrap(KeyIdentity::File, &STANDARD.decode(wrapped)?)?;
            assert_eq!(unwrapped.as_bytes(), key.as_bytes(), "{}", vector.comment);
        }
        let mut content = Vec::new();
        opener.content(&key)?.read_to_end(&mut content)?;
        assert_eq!(content.len(), vector.length, "{}", vector.comment);
        assert!(
            content.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251),
            "{}",
            vector.comment
        );
    }
    Ok(())
}
