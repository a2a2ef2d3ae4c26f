//! The decoder of envelopes: nothing panics, and nothing opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_envelope::{ContextHash, DataKey, Envelope, KeyBytes, KeyVersion};
use std::sync::LazyLock;

static KEY: LazyLock<DataKey> = LazyLock::new(|| {
    DataKey::new(KeyVersion::new(7).unwrap(), &KeyBytes::parse(&"07".repeat(32)).unwrap())
});

fuzz_target!(|data: &[u8]| {
    let peeked = Envelope::peek_key_version(&data[..data.len().min(Envelope::PEEK_LEN)]);
    if let Ok(envelope) = Envelope::parse(data) {
        assert_eq!(peeked.ok(), Some(envelope.key_version()));
        let attributes = envelope.attributes();
        assert_eq!(attributes.envelope_len(envelope.plaintext_len()), data.len());
        let mut out = vec![0; envelope.plaintext_len()];
        for context in [None, Some(ContextHash::of(b"here"))] {
            assert!(KEY.open_into(&envelope, context.as_ref(), &mut out).is_err());
        }
        assert!(out.iter().all(|byte| *byte == 0));
    }
});
