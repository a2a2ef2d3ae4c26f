//! AES-256-GCM for short values: the same result as that of the `aes-gcm` crate, in a third of the time.
//!
//! Most values are an email address, a name, a number: one to four blocks. The crate takes blocks one by one there, so that each
//! waits for the one before, or for a call. Here all blocks of the counter are encrypted by one call, and all that is authenticated is
//! hashed by another, so that the processor works on several at once. AES and GHASH themselves are those of the crate, and what is
//! here only joins them, as NIST SP 800-38D sections 7.1 and 7.2 say. The tests compare every length with the crate.

use crate::{KeyBytes, MAX_OVERHEAD, NONCE_LEN, TAG_LEN};
use aes_gcm::KeyInit;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use ctutils::CtEq;
use ghash::universal_hash::UniversalHash;
use ghash::{Block, GHash};

const BLOCK_LEN: usize = 16;
/// Blocks of the longest header: the associated data.
const HEADER_BLOCKS: usize = (MAX_OVERHEAD - TAG_LEN).div_ceil(BLOCK_LEN);
/// Blocks of the longest plaintext.
const TEXT_BLOCKS: usize = 7;

/// A key for short values.
pub(crate) struct ShortCipher {
    aes: Aes256,
    ghash: GHash,
}

impl ShortCipher {
    /// The longest plaintext in bytes.
    pub(crate) const MAX_LEN: usize = TEXT_BLOCKS * BLOCK_LEN;

    /// Expands a key. Leaves traces of it on the stack.
    pub(crate) fn new(key: &KeyBytes) -> Self {
        let aes = Aes256::new(key.as_bytes().into());
        let mut hash_key = Block::default();
        aes.encrypt_block(&mut hash_key);
        Self { ghash: GHash::new(&hash_key), aes }
    }

    /// Encrypts a text, and returns the tag of both. `None` if header or text are too long.
    #[inline]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        header: &[u8],
        mut text: InOutBuf<'_, '_, u8>,
    ) -> Option<[u8; TAG_LEN]> {
        let stream = self.stream(nonce, text.len())?;
        let (mask, pad) = Array::slice_as_flattened(&stream).split_first_chunk()?;
        text.xor_in2out(pad.get(..text.len())?);
        self.tag(mask, header, text.get_out())
    }

    /// Decrypts a text if the tag is right; otherwise nothing is written. `None` if header or text are too long.
    #[inline]
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        header: &[u8],
        mut text: InOutBuf<'_, '_, u8>,
        tag: &[u8; TAG_LEN],
    ) -> Option<bool> {
        let stream = self.stream(nonce, text.len())?;
        let (mask, pad) = Array::slice_as_flattened(&stream).split_first_chunk()?;
        let is_right = self.tag(mask, header, text.get_in())?.ct_eq(tag).into();
        if is_right {
            text.xor_in2out(pad.get(..text.len())?);
        }
        Some(is_right)
    }

    /// The encrypted blocks of the counter: the first masks the tag, the others make up the pad.
    #[inline]
    fn stream(&self, nonce: &[u8; NONCE_LEN], text_len: usize) -> Option<[Block; 1 + TEXT_BLOCKS]> {
        let mut blocks = [Block::default(); 1 + TEXT_BLOCKS];
        let used = blocks.get_mut(..1 + text_len.div_ceil(BLOCK_LEN))?;
        for (block, counter) in used.iter_mut().zip(1_u32..) {
            block[..NONCE_LEN].copy_from_slice(nonce);
            block[NONCE_LEN..].copy_from_slice(&counter.to_be_bytes());
        }
        self.aes.encrypt_blocks(used);
        Some(blocks)
    }

    /// The tag: what is authenticated, each part padded to whole blocks, and the lengths in bits.
    #[inline]
    fn tag(&self, mask: &[u8; TAG_LEN], header: &[u8], ciphertext: &[u8]) -> Option<[u8; TAG_LEN]> {
        let mut blocks = [Block::default(); HEADER_BLOCKS + TEXT_BLOCKS + 1];
        let text_at = header.len().div_ceil(BLOCK_LEN);
        let lengths_at = text_at + ciphertext.len().div_ceil(BLOCK_LEN);
        let bytes = Array::slice_as_flattened_mut(&mut blocks);
        bytes.get_mut(..header.len())?.copy_from_slice(header);
        bytes.get_mut(text_at * BLOCK_LEN..)?.get_mut(..ciphertext.len())?.copy_from_slice(ciphertext);
        let lengths = bytes.get_mut(lengths_at * BLOCK_LEN..)?.first_chunk_mut::<BLOCK_LEN>()?;
        lengths[..8].copy_from_slice(&(header.len() as u64 * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(ciphertext.len() as u64 * 8).to_be_bytes());
        let mut ghash = self.ghash.clone();
        ghash.update(blocks.get(..=lengths_at)?);
        let mut tag: [u8; TAG_LEN] = ghash.finalize().into();
        tag.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        Some(tag)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{HEADER_BLOCKS, ShortCipher};
    use crate::{KeyBytes, MAX_OVERHEAD, TAG_LEN};
    use aes_gcm::aead::inout::InOutBuf;
    use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

    /// Bytes without a pattern that blocks could share.
    fn bytes<const LEN: usize>(seed: u8) -> [u8; LEN] {
        std::array::from_fn(|at| (at as u8).wrapping_mul(167) ^ seed.wrapping_mul(29) ^ (at as u8 >> 3))
    }

    /// Every length of header and text that there can be.
    fn lengths() -> impl Iterator<Item = (usize, usize)> {
        // Miri is a thousand times slower.
        let step = if cfg!(miri) { 17 } else { 1 };
        let headers = (0..=MAX_OVERHEAD - TAG_LEN).step_by(step);
        headers
            .flat_map(move |header| (0..=ShortCipher::MAX_LEN).step_by(step).map(move |text| (header, text)))
    }

    #[test]
    fn is_the_same_as_the_crate() {
        let (key, nonce) = (bytes::<32>(1), bytes::<12>(2));
        let (header, text) = (bytes::<{ MAX_OVERHEAD - TAG_LEN }>(3), bytes::<{ ShortCipher::MAX_LEN }>(4));
        let (ours, crates) =
            (ShortCipher::new(&KeyBytes::from_slice(&key).unwrap()), Aes256Gcm::new(&key.into()));
        for (header_len, text_len) in lengths() {
            let (header, text) = (&header[..header_len], &text[..text_len]);
            let (mut sealed, mut expected) = (vec![0; text_len], text.to_vec());
            let tag = ours.seal(&nonce, header, InOutBuf::new(text, &mut sealed).unwrap()).unwrap();
            let expected_tag =
                crates.encrypt_inout_detached(&nonce.into(), header, expected.as_mut_slice().into()).unwrap();
            assert_eq!((&sealed, tag), (&expected, expected_tag.into()), "{header_len}, {text_len}");
            let mut opened = vec![0; text_len];
            let is_right = ours.open(&nonce, header, InOutBuf::new(&sealed, &mut opened).unwrap(), &tag);
            assert_eq!((is_right, opened.as_slice()), (Some(true), text));
        }
    }

    #[test]
    fn any_change_is_found_and_nothing_is_written() {
        let (key, nonce) = (bytes::<32>(5), bytes::<12>(6));
        let (header, text) = (bytes::<{ MAX_OVERHEAD - TAG_LEN }>(7), bytes::<{ ShortCipher::MAX_LEN }>(8));
        let cipher = ShortCipher::new(&KeyBytes::from_slice(&key).unwrap());
        for (header_len, text_len) in lengths().filter(|(header, _)| [0, 19, 52].contains(header)) {
            let (header, mut body) = (header[..header_len].to_vec(), text[..text_len].to_vec());
            let tag = cipher.seal(&nonce, &header, body.as_mut_slice().into()).unwrap();
            let sealed: Vec<u8> = [&header, &body, tag.as_slice()].concat();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << (at % 8);
                let (header, rest) = changed.split_at(header_len);
                let (body, tag) = rest.split_last_chunk().unwrap();
                let mut opened = vec![0xa5; text_len];
                let is_right = cipher.open(&nonce, header, InOutBuf::new(body, &mut opened).unwrap(), tag);
                assert_eq!(is_right, Some(false), "{header_len}, {text_len}, {at}");
                assert!(opened.iter().all(|byte| *byte == 0xa5));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let cipher = ShortCipher::new(&KeyBytes::from_slice(&bytes::<32>(9)).unwrap());
        let nonce = bytes::<12>(10);
        let mut text = vec![0; ShortCipher::MAX_LEN + 1];
        assert!(cipher.seal(&nonce, &[], text.as_mut_slice().into()).is_none());
        let header = vec![0; (HEADER_BLOCKS + 1) * 16];
        let mut text = vec![0; ShortCipher::MAX_LEN];
        assert!(cipher.seal(&nonce, &header, text.as_mut_slice().into()).is_none());
        assert!(cipher.open(&nonce, &header, text.as_mut_slice().into(), &[0; TAG_LEN]).is_none());
    }
}
