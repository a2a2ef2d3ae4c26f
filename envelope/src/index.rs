//! Index keys make values searchable without opening them.
//!
//! Each use has its own key, derived from the index key with HKDF-Expand (RFC 5869 section 2.3), so that no search tag is ever
//! a blind index of something else.

use crate::stack::{InPlace, wiping};
use crate::{KeyBytes, SearchTag};
use hmac::{HmacReset, Mac};
use sha2::Sha256;

const SEARCH_TAG_LABEL: &[u8] = b"prism_crypt search tag v1";
const BLIND_INDEX_LABEL: &[u8] = b"prism_crypt blind index v1";

/// The maximum length of a blind index in bits: that of HMAC-SHA-256.
pub const MAX_BLIND_INDEX_BITS: usize = 256;

/// The keys for both uses could not be derived from an index key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index key could not be derived")]
pub struct DerivationError;

/// An index key of a keyset, ready to use. Wiped when dropped; has no `Debug`, no `Clone`.
pub struct IndexKey {
    generation: u8,
    search_tag: InPlace<HmacReset<Sha256>>,
    blind_index: InPlace<HmacReset<Sha256>>,
}

impl IndexKey {
    /// Derives the keys for both uses.
    ///
    /// # Errors
    /// [`DerivationError`], which never occurs with 256-bit keys.
    pub fn new(generation: u8, key: &KeyBytes) -> Result<Self, DerivationError> {
        Ok(Self {
            generation,
            search_tag: derived(key, SEARCH_TAG_LABEL)?,
            blind_index: derived(key, BLIND_INDEX_LABEL)?,
        })
    }

    /// The generation written to every tag it makes.
    #[must_use]
    pub fn generation(&self) -> u8 {
        self.generation
    }

    /// The search tag of a plaintext: the first 128 bits of HMAC-SHA-256 (RFC 2104; truncated as in section 5).
    #[must_use]
    #[inline(never)]
    pub fn search_tag(&self, plaintext: &[u8]) -> SearchTag {
        // Finalised by reference, and not inlined: otherwise copies of the state would stay in the caller's frame, which
        // nothing wipes.
        let mut mac = self.search_tag.clone();
        mac.update(plaintext);
        let digest = mac.finalize_reset().into_bytes();
        let mut hash = [0; SearchTag::HASH_LEN];
        hash.copy_from_slice(&digest[..SearchTag::HASH_LEN]);
        SearchTag::new(self.generation, hash)
    }

    /// The first `bits` bits (1 to [`MAX_BLIND_INDEX_BITS`]) of the HMAC-SHA-256 of a value under a context, in as few bytes
    /// as possible; unused bits of the last byte are zero. `None` for any other number of bits.
    ///
    /// What is hashed is `0x00 ‖ value` without a context, and `0x01 ‖ length of the context in bytes (8, big-endian) ‖
    /// context ‖ value` with one.
    #[must_use]
    #[inline(never)]
    pub fn blind_index(&self, value: &[u8], context: Option<&[u8]>, bits: usize) -> Option<Vec<u8>> {
        if !(1..=MAX_BLIND_INDEX_BITS).contains(&bits) {
            return None;
        }
        let mut mac = self.blind_index.clone();
        match context {
            None => mac.update(&[0]),
            Some(context) => {
                mac.update(&[1]);
                mac.update(&(context.len() as u64).to_be_bytes());
                mac.update(context);
            }
        }
        mac.update(value);
        let digest = mac.finalize_reset().into_bytes();
        let mut index = digest[..bits.div_ceil(8)].to_vec();
        if let Some(last) = index.last_mut() {
            *last &= 0xff << (bits.next_multiple_of(8) - bits);
        }
        Some(index)
    }
}

/// An index key is uniformly random, so nothing has to be extracted (RFC 5869 section 3.3).
fn derived(key: &KeyBytes, label: &[u8]) -> Result<InPlace<HmacReset<Sha256>>, DerivationError> {
    let key = wiping(|| key.derive(label)).ok_or(DerivationError)?;
    Ok(InPlace::new(|| key.hmac()))
}

#[cfg(test)]
mod tests {
    use super::IndexKey;
    use crate::KeyBytes;

    fn key() -> Option<IndexKey> {
        IndexKey::new(1, &KeyBytes::from_slice(&[7; 32])?).ok()
    }

    #[test]
    fn blind_indexes_are_prefixes_of_each_other() {
        let index = |bits| key().and_then(|key| key.blind_index(b"x", Some(b"c"), bits));
        let full = index(256).unwrap_or_default();
        assert_eq!(full.len(), 32);
        // Miri is a thousand times slower.
        for bits in (1..=256).step_by(if cfg!(miri) { 51 } else { 1 }) {
            let cut = index(bits).unwrap_or_default();
            assert_eq!(cut.len(), bits.div_ceil(8));
            for bit in 0..cut.len() * 8 {
                let at = |bytes: &[u8]| bytes[bit / 8] >> (7 - bit % 8) & 1;
                assert_eq!(at(&cut), if bit < bits { at(&full) } else { 0 }, "bit {bit} of {bits}");
            }
        }
        assert!(index(0).is_none() && index(257).is_none());
    }

    #[test]
    fn a_context_is_not_a_part_of_the_value() {
        let index =
            |value: &[u8], context: Option<&[u8]>| key().and_then(|key| key.blind_index(value, context, 128));
        let all =
            [index(b"ab", None), index(b"b", Some(b"a")), index(b"", Some(b"ab")), index(b"ab", Some(b""))];
        for (at, one) in all.iter().enumerate() {
            assert!(one.is_some() && !all[..at].contains(one));
        }
    }
}
