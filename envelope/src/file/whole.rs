//! Version 1: one seal over the whole content, AES-256-GCM without associated data.

use super::{FileError, fill, read_exact};
use crate::nonce::fill_random;
use crate::stack::InPlace;
use crate::{KeyBytes, NONCE_LEN, TAG_LEN};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use std::io::{Read, Write};
use zeroize::Zeroizing;

/// The longest content in bytes: 1 GiB, which has to fit in memory.
pub const MAX_WHOLE_LEN: usize = 1 << 30;
/// Memory is asked for as it is needed, and the old one wiped when it grows.
const STEP: usize = 1 << 20;

/// Writes nonce, ciphertext and tag.
pub(super) fn write(
    out: &mut impl Write,
    mut content: Zeroizing<Vec<u8>>,
    key: &KeyBytes,
) -> Result<(), FileError> {
    if content.len() > MAX_WHOLE_LEN {
        return Err(FileError::Length);
    }
    let mut nonce = [0; NONCE_LEN];
    fill_random(&mut nonce)?;
    let tag = cipher(key)
        .encrypt_inout_detached(&nonce.into(), &[], content.as_mut_slice().into())
        .map_err(|_| FileError::Length)?;
    for part in [nonce.as_slice(), &content, &tag] {
        out.write_all(part).map_err(FileError::Io)?;
    }
    Ok(())
}

/// Reads and opens what follows the version.
pub(super) fn open(from: &mut impl Read, key: &KeyBytes) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut nonce = [0; NONCE_LEN];
    read_exact(from, &mut nonce)?;
    let mut bytes = read_all(from)?;
    let len = bytes.len().checked_sub(TAG_LEN).ok_or(FileError::Truncated)?;
    let (content, tag) = bytes.split_at_mut(len);
    let tag = <&[u8; TAG_LEN]>::try_from(&*tag).map_err(|_| FileError::Truncated)?;
    cipher(key)
        .decrypt_inout_detached(&nonce.into(), &[], content.into(), tag.into())
        .map_err(|_| FileError::Decryption)?;
    bytes.truncate(len);
    Ok(bytes)
}

fn cipher(key: &KeyBytes) -> InPlace<Aes256Gcm> {
    InPlace::new(|| Aes256Gcm::new(key.as_bytes().into()))
}

fn read_all(from: &mut impl Read) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    loop {
        let len = bytes.len();
        if len == bytes.capacity() {
            // It holds ciphertext yet, but is opened in place.
            let mut larger = Zeroizing::new(Vec::new());
            larger.try_reserve_exact((2 * len).max(STEP)).map_err(|_| FileError::OutOfMemory)?;
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let room = bytes.capacity() - len;
        bytes.resize(len + room, 0);
        let read = fill(from, bytes.get_mut(len..).unwrap_or_default())?;
        bytes.truncate(len + read);
        if bytes.len() > MAX_WHOLE_LEN + TAG_LEN {
            return Err(FileError::Length);
        }
        if read < room {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Opener, write_whole};
    use super::*;

    #[test]
    fn every_length_comes_back() {
        let key = KeyBytes::generate().unwrap();
        for len in [0, 1, 16, STEP - 1, STEP, 3 * STEP + 5] {
            let content: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let bytes = write_whole(Vec::new(), Zeroizing::new(content.clone()), &key).unwrap();
            assert_eq!(bytes.len(), 5 + NONCE_LEN + len + TAG_LEN);
            let mut opened = Vec::new();
            Opener::new(bytes.as_slice()).unwrap().content(&key).unwrap().read_to_end(&mut opened).unwrap();
            assert!(opened == content);
        }
    }
}
