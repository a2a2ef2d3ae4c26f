//! The text form: nothing panics, and what decodes is what encodes to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_envelope::{KeyVersion, armor};

fn version_of(text: &[u8]) -> Option<KeyVersion> {
    let digits = text.split(|byte| *byte == b':').nth(1)?.strip_prefix(b"v")?;
    KeyVersion::new(std::str::from_utf8(digits).ok()?.parse().ok()?)
}

fuzz_target!(|data: &[u8]| {
    let mut out = vec![0; data.len()];
    if let Ok(length) = armor::decode_into(data, &mut out) {
        let mut text = vec![0; data.len() + 64];
        let written = armor::encode_into(version_of(data).unwrap(), &out[..length], &mut text).unwrap();
        assert!(&text[..written] == data);
    }
});
