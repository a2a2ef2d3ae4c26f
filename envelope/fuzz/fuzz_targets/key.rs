//! Keys as text: nothing panics, and a key has one meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_envelope::{KeyBytes, parse_keys};

fuzz_target!(|text: &str| {
    if let Ok(key) = KeyBytes::parse(text) {
        let hex = key.to_hex();
        assert!(KeyBytes::parse(&hex).is_ok_and(|again| *again.to_hex() == *hex));
        assert!(parse_keys(text).is_ok_and(|keys| keys.len() == 1) || text.trim().contains(['\n', '\r', ',']));
    }
    if let Ok(keys) = parse_keys(text) {
        assert!(keys.len() <= text.split(['\n', '\r', ',']).count());
    }
});
