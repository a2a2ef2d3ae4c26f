//! 256-bit keys: parsed from text, generated, wiped.

use crate::RandomnessError;
use crate::nonce::fill_random;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD};
use hkdf::Hkdf;
use hmac::{HmacReset, KeyInit};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of every key in bytes: 256 bits.
pub const KEY_LEN: usize = 32;

/// The longest key text that is decoded. A longer one can't be a key.
const MAX_KEY_TEXT: usize = 1024;

/// Why a text is not a key. Never holds any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It does not decode to 32 bytes.
    #[error("Key must be 32 bytes, got {0}")]
    Length(usize),
    /// It is neither hexadecimal nor base64.
    #[error("Key must be 64 hexadecimal digits or the base64 of 32 bytes")]
    Encoding,
}

/// A 256-bit key. Wiped when dropped; has no `Debug`, no `Clone`. Boxed, so that a move leaves no copy behind.
pub struct KeyBytes(Box<Zeroizing<[u8; KEY_LEN]>>);

impl KeyBytes {
    /// A new random key.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system gives no random bytes.
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut key = Self::zeroed();
        fill_random(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// Reads 64 hexadecimal digits or base64 (padded or not), and ignores surrounding white space.
    ///
    /// # Errors
    /// [`KeyError`] if the key is not 32 bytes, or in neither encoding.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() > MAX_KEY_TEXT {
            return Err(KeyError::Encoding);
        }
        // 32 bytes are 43 or 44 base64 characters, the 44th being '=': never an even number of hex digits.
        let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
        // Decoded in place: a growing buffer, or one dropped by a failed attempt, would leave parts of the key on the heap.
        let mut decoded = Zeroizing::new([0; MAX_KEY_TEXT]);
        let length = if is_hex {
            hex::decode_to_slice(text, &mut decoded[..text.len() / 2]).map(|()| text.len() / 2).ok()
        } else {
            let mut decode = |engine: &GeneralPurpose| engine.decode_slice(text, decoded.as_mut_slice()).ok();
            decode(&STANDARD).or_else(|| decode(&STANDARD_NO_PAD))
        }
        .ok_or(KeyError::Encoding)?;
        Self::from_slice(&decoded[..length]).ok_or(KeyError::Length(length))
    }

    /// The key as 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.as_bytes()))
    }

    /// The key with these bytes, or `None` when they are not 32.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::zeroed();
        (bytes.len() == KEY_LEN).then(|| key.0.copy_from_slice(bytes))?;
        Some(key)
    }

    /// HMAC-SHA-256 (RFC 2104) under this key. Call it only where the stack is wiped.
    pub(crate) fn hmac(&self) -> HmacReset<Sha256> {
        // HMAC's key block: the key, padded with zeros.
        let mut block = Zeroizing::new([0; 64]);
        block[..KEY_LEN].copy_from_slice(self.as_bytes());
        <HmacReset<Sha256> as KeyInit>::new((&*block).into())
    }

    /// Derives the key for one use with HKDF-Expand (RFC 5869 section 2.3). Never `None`: both keys have the length of the
    /// hash. Call it only where the stack is wiped.
    pub(crate) fn derive(&self, label: &[u8]) -> Option<Self> {
        let mut key = Self::zeroed();
        Hkdf::<Sha256>::from_prk(self.as_bytes()).ok()?.expand(label, key.0.as_mut_slice()).ok()?;
        Some(key)
    }

    pub(crate) fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_LEN])))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8; KEY_LEN] {
        &mut self.0
    }
}

/// Reads one key per line (or several separated by commas); empty lines don't count.
///
/// # Errors
/// The number (from 1) of the first invalid key, and what is wrong with it.
pub fn parse_keys(text: &str) -> Result<Vec<KeyBytes>, (usize, KeyError)> {
    text.split(['\n', '\r', ','])
        .filter(|part| !part.trim().is_empty())
        .enumerate()
        .map(|(index, part)| KeyBytes::parse(part).map_err(|error| (index + 1, error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{KeyBytes, KeyError, parse_keys};

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn error(text: &str) -> Option<KeyError> {
        KeyBytes::parse(text).err()
    }

    #[test]
    fn hex_and_base64_give_the_same_key() {
        for text in
            [HEX, &HEX.to_uppercase(), BASE64, BASE64.trim_end_matches('='), &format!(" \t{BASE64}\r\n")]
        {
            assert!(KeyBytes::parse(text).is_ok_and(|key| *key.to_hex() == HEX), "{text}");
        }
    }

    #[test]
    fn wrong_lengths_are_counted_in_bytes() {
        assert_eq!(error(&HEX[..32]), Some(KeyError::Length(16)));
        assert_eq!(error("AAECAwQFBgcICQoLDA0ODw=="), Some(KeyError::Length(16)));
        assert_eq!(error(&HEX.repeat(2)), Some(KeyError::Length(64)));
        assert_eq!(error(""), Some(KeyError::Length(0)));
        assert_eq!(KeyError::Length(16).to_string(), "Key must be 32 bytes, got 16");
    }

    #[test]
    fn garbage_is_told_apart_from_a_short_key() {
        for text in ["not a key", "zz", &format!("{HEX}!"), &"a".repeat(2000)] {
            assert_eq!(error(text), Some(KeyError::Encoding), "{text}");
        }
    }

    #[test]
    fn several_keys_keep_their_order() {
        let other = HEX.replace('0', "f");
        let keys = parse_keys(&format!("\n{HEX}\n\n{other}\r\n"));
        assert!(keys.is_ok_and(|keys| {
            keys.iter().map(|key| key.to_hex()).eq([HEX, &other].map(|k| k.to_owned().into()))
        }));
        assert_eq!(parse_keys(&format!("{HEX},abcd")).err(), Some((2, KeyError::Length(2))));
        assert!(parse_keys(" \n").is_ok_and(|keys| keys.is_empty()));
    }

    #[test]
    fn generated_keys_differ() {
        let keys = [KeyBytes::generate(), KeyBytes::generate()].map(|key| key.ok().map(|key| key.to_hex()));
        assert!(keys[0].is_some() && keys[0] != keys[1]);
    }
}
