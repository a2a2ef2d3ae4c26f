//! Properties of the format: what is sealed opens, and nothing else does.
#![allow(clippy::unwrap_used)]

use prism_envelope::{
    Attributes, Content, ContextHash, DataKey, Envelope, FieldClass, IndexKey, KeyBytes, KeyIdentity,
    KeyVersion, MasterKey, NonceOwner, NoncePool, OpenError, SearchTag, WRAPPED_LEN, armor, parse_keys,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

fn data_key(version: u32) -> DataKey {
    DataKey::new(KeyVersion::new(version).unwrap(), &KeyBytes::generate().unwrap())
}

const OWNER: NonceOwner = NonceOwner { process_id: 1, transaction: 1 };

static KEY: LazyLock<DataKey> = LazyLock::new(|| data_key(7));

fn seal(key: &DataKey, attributes: &Attributes, plaintext: &[u8]) -> Vec<u8> {
    let mut out = vec![0; attributes.envelope_len(plaintext.len())];
    key.seal_into(&mut NoncePool::new(), OWNER, attributes, plaintext, &mut out).unwrap();
    out
}

fn open(key: &DataKey, bytes: &[u8], context: Option<&ContextHash>) -> Option<Vec<u8>> {
    let envelope = Envelope::parse(bytes).ok()?;
    let mut out = vec![0xa5; envelope.plaintext_len()];
    match key.open_into(&envelope, context, &mut out) {
        Ok(()) => Some(out),
        Err(_) => {
            assert!(out.iter().all(|byte| *byte == 0xa5), "a failed open touched its output");
            None
        }
    }
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let tag = proptest::option::of((any::<u8>(), any::<[u8; 16]>()));
    let context = proptest::option::of(vec(any::<u8>(), 0..20));
    (any::<bool>(), 0..=7u8, tag, context).prop_map(|(bytes, class, tag, context)| Attributes {
        content: if bytes { Content::Bytes } else { Content::Text },
        class: FieldClass::from_code(class).unwrap(),
        search_tag: tag.map(|(generation, hash)| SearchTag::new(generation, hash)),
        context: context.map(|context| ContextHash::of(&context)),
    })
}

/// The front gives the same search tag as all bytes do.
fn peeks_the_tag_it_parses(bytes: &[u8]) -> bool {
    let front = &bytes[..bytes.len().min(Envelope::PEEK_TAG_LEN)];
    Envelope::parse(bytes)
        .is_ok_and(|envelope| Envelope::peek_search_tag(front) == envelope.attributes().search_tag)
}

/// The front and the length give the same result as all bytes do.
fn peeks_as_it_parses(bytes: &[u8]) -> bool {
    let front = &bytes[..bytes.len().min(Envelope::PEEK_LEN)];
    Envelope::peek(front, bytes.len()) == Envelope::parse(bytes).map(|envelope| envelope.key_version())
}

/// Miri is about a thousand times slower, so it runs one case, with few of its changes.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    if cfg!(miri) { ProptestConfig { cases: 1, failure_persistence: None, ..default } } else { default }
}

const STEP: usize = if cfg!(miri) { 97 } else { 1 };

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_sealed_opens(attributes in attributes(), plaintext in vec(any::<u8>(), 0..300)) {
        let sealed = seal(&KEY, &attributes, &plaintext);
        let envelope = Envelope::parse(&sealed).unwrap();
        prop_assert_eq!(envelope.attributes(), attributes);
        prop_assert_eq!(envelope.key_version(), KEY.version());
        prop_assert_eq!(Envelope::peek_key_version(&sealed[..Envelope::PEEK_LEN]).unwrap(), KEY.version());
        prop_assert!(peeks_the_tag_it_parses(&sealed));
        prop_assert_eq!(open(&KEY, &sealed, attributes.context.as_ref()), Some(plaintext));
        prop_assert_eq!(open(&data_key(7), &sealed, attributes.context.as_ref()), None);
        prop_assert_eq!(open(&KEY, &sealed, Some(&ContextHash::of(b"another context, longer than any"))), None);
    }

    #[test]
    fn every_flipped_bit_is_found(attributes in attributes(), plaintext in vec(any::<u8>(), 0..40)) {
        let mut sealed = seal(&KEY, &attributes, &plaintext);
        for bit in (0..sealed.len() * 8).step_by(STEP) {
            sealed[bit / 8] ^= 1 << (bit % 8);
            let context = Envelope::parse(&sealed).ok().and_then(|envelope| envelope.attributes().context);
            prop_assert_eq!(open(&KEY, &sealed, context.as_ref()), None, "bit {}", bit);
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn every_truncation_is_found(attributes in attributes(), plaintext in vec(any::<u8>(), 0..40)) {
        let sealed = seal(&KEY, &attributes, &plaintext);
        for length in (0..sealed.len()).step_by(STEP) {
            prop_assert_eq!(open(&KEY, &sealed[..length], attributes.context.as_ref()), None, "length {}", length);
            prop_assert!(peeks_as_it_parses(&sealed[..length]), "length {}", length);
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        prop_assert_eq!(open(&KEY, &longer, attributes.context.as_ref()), None);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), text in ".{0,80}") {
        let _ = Envelope::parse(&bytes);
        let _ = Envelope::peek_key_version(&bytes);
        let _ = Envelope::peek_search_tag(&bytes);
        prop_assert!(peeks_as_it_parses(&bytes));
        let _ = parse_keys(&text);
        let armored = [b"prism:v1:", text.as_bytes()].concat();
        for input in [&bytes, &armored] {
            let mut out = vec![0; armor::decoded_len_estimate(input.len())];
            let _ = armor::decode_into(input, &mut out);
        }
    }

    #[test]
    fn bytes_that_look_like_an_envelope_never_panic(front in any::<[u8; 2]>(), rest in vec(any::<u8>(), 0..80)) {
        let bytes = [&[1, front[0] & 7, front[1] & 7, 0, 0, 0, 7][..], &rest].concat();
        prop_assert!(peeks_as_it_parses(&bytes));
        prop_assert_eq!(open(&KEY, &bytes, Envelope::parse(&bytes).ok().and_then(|e| e.attributes().context).as_ref()), None);
    }

    #[test]
    fn text_form_round_trips(version in 1..=i32::MAX.cast_unsigned(), plaintext in vec(any::<u8>(), 0..100)) {
        let key = data_key(version);
        let sealed = seal(&key, &Attributes::default(), &plaintext);
        let mut text = vec![0; armor::encoded_len(key.version(), sealed.len())];
        prop_assert_eq!(armor::encode_into(key.version(), &sealed, &mut text).unwrap(), text.len());
        prop_assert!(armor::is_armored(&text));
        let mut out = vec![0; armor::decoded_len_estimate(text.len())];
        let length = armor::decode_into(&text, &mut out).unwrap();
        prop_assert_eq!(&out[..length], &sealed);
        for cut in (0..text.len()).step_by(STEP) {
            // A cut after a group of four characters is a shorter envelope: if it parses at all, its tag is wrong.
            if let Ok(length) = armor::decode_into(&text[..cut], &mut out) {
                prop_assert!(length < sealed.len());
                prop_assert_eq!(open(&key, &out[..length], None), None);
            }
        }
    }

    #[test]
    fn a_reseal_keeps_the_plaintext_and_needs_no_context(attributes in attributes(), plaintext in vec(any::<u8>(), 0..100)) {
        let new = data_key(8);
        let sealed = seal(&KEY, &attributes, &plaintext);
        let mut resealed = vec![0; sealed.len()];
        let envelope = Envelope::parse(&sealed).unwrap();
        new.reseal_into(&mut NoncePool::new(), OWNER, &KEY, &envelope, &attributes, None, &mut resealed).unwrap();
        prop_assert!(open(&new, &resealed, attributes.context.as_ref()).is_some_and(|opened| opened == plaintext));
        let envelope = Envelope::parse(&resealed).unwrap();
        prop_assert_eq!(envelope.attributes(), attributes);
        let envelope = Envelope::parse(&sealed).unwrap();
        let wrong = data_key(7);
        prop_assert!(new.reseal_into(&mut NoncePool::new(), OWNER, &wrong, &envelope, &attributes, None, &mut resealed).is_err());

        // With an index key, a requested tag is made again.
        let index_key = IndexKey::new(9, &KeyBytes::generate().unwrap()).unwrap();
        new.reseal_into(&mut NoncePool::new(), OWNER, &KEY, &envelope, &attributes, Some(&index_key), &mut resealed).unwrap();
        prop_assert!(open(&new, &resealed, attributes.context.as_ref()).is_some_and(|opened| opened == plaintext));
        let tagged = Envelope::parse(&resealed).unwrap().attributes().search_tag;
        prop_assert_eq!(tagged, attributes.search_tag.map(|_| index_key.search_tag(&plaintext)));
    }

    #[test]
    fn tags_are_equal_where_key_and_plaintext_are(one in vec(any::<u8>(), 0..3), other in vec(any::<u8>(), 0..3)) {
        let secret = KeyBytes::generate().unwrap();
        let key = |generation, secret| IndexKey::new(generation, secret).unwrap();
        prop_assert_eq!(key(1, &secret).search_tag(&one) == key(1, &secret).search_tag(&other), one == other);
        prop_assert!(key(1, &secret).search_tag(&one).hash() == key(2, &secret).search_tag(&one).hash());
        let another = KeyBytes::generate().unwrap();
        prop_assert_ne!(key(1, &secret).search_tag(&one), key(1, &another).search_tag(&one));
    }

    #[test]
    fn wrapped_keys_are_bound_to_version_and_keyset(version in 1..1000u32, keyset in "[a-z0-9_]{1,20}", bit in 0..WRAPPED_LEN*8) {
        let master = MasterKey::new(&KeyBytes::generate().unwrap());
        let key = KeyBytes::generate().unwrap();
        let version = KeyVersion::new(version).unwrap();
        let identity = KeyIdentity::Data(version, &keyset);
        let longer = keyset.clone() + "x";
        let mut wrapped = master.wrap(&mut NoncePool::new(), OWNER, identity, &key).unwrap();
        prop_assert!(master.unwrap(identity, &wrapped).is_ok_and(|k| k.to_hex() == key.to_hex()));
        prop_assert!(master.unwrap(KeyIdentity::Data(KeyVersion::new(version.get() + 1).unwrap(), &keyset), &wrapped).is_err());
        prop_assert!(master.unwrap(KeyIdentity::Data(version, &longer), &wrapped).is_err());
        prop_assert!(MasterKey::new(&key).unwrap(identity, &wrapped).is_err());
        prop_assert!(master.unwrap(identity, &wrapped[..WRAPPED_LEN - 1]).is_err());
        wrapped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(master.unwrap(identity, &wrapped).is_err());
    }
}

#[test]
fn wrong_buffers_are_errors() {
    let mut out = [0; 10];
    assert!(KEY.seal_into(&mut NoncePool::new(), OWNER, &Attributes::default(), b"12", &mut out).is_err());
    let sealed = seal(&KEY, &Attributes::default(), b"12");
    let envelope = Envelope::parse(&sealed).unwrap();
    assert_eq!(KEY.open_into(&envelope, None, &mut out), Err(OpenError::Length));
}

#[test]
fn overhead_is_what_the_constants_say() {
    assert_eq!(seal(&KEY, &Attributes::default(), b"").len(), prism_envelope::MIN_OVERHEAD);
    assert_eq!(prism_envelope::MIN_OVERHEAD, 35);
    let all = Attributes {
        search_tag: Some(SearchTag::new(1, [0; 16])),
        context: Some(ContextHash::of(b"x")),
        ..Attributes::default()
    };
    assert_eq!(seal(&KEY, &all, b"").len(), prism_envelope::MAX_OVERHEAD);
}
