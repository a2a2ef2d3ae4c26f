//! Cobblestone-256, the chunked encryption of <https://c2sp.org/chunked-encryption> with AES-256-GCM and SHA-512.
//!
//! ```text
//! salt, 24 | commitment, 32 | chunks of 16384 bytes and their tag of 16 | a last chunk, which is shorter, and its tag
//! ```

use super::{FileError, fill, read_exact};
use crate::nonce::fill_random;
use crate::stack::{InPlace, wiping};
use crate::{KEY_LEN, KeyBytes, NONCE_LEN, TAG_LEN};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::Sha512;
use std::io::{self, Read, Write};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The plaintext of every chunk but the last.
pub const CHUNK_LEN: usize = 16 << 10;
/// What stands before the chunks: salt and commitment.
pub const PREFIX_LEN: usize = SALT_LEN + COMMITMENT_LEN;

const SALT_LEN: usize = 24;
const COMMITMENT_LEN: usize = 32;
/// "The message MUST NOT exceed 2^38 chunks".
const MOST_CHUNKS: u64 = 1 << 38;
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// The length in bytes of what a content of this length becomes.
#[must_use]
pub fn encrypted_len(content: u64) -> u64 {
    PREFIX_LEN as u64 + content + (content / CHUNK_LEN as u64 + 1) * TAG_LEN as u64
}

/// Encrypts what is written to it. Dropped without [`finish`](Self::finish), it leaves what no one takes for whole.
pub struct Encryptor<W> {
    out: W,
    chunks: Chunks,
    buffer: Buffer,
}

impl<W: Write> Encryptor<W> {
    /// Begins with a random salt. The context is authenticated with all of it, and not written.
    ///
    /// # Errors
    /// [`FileError::Randomness`], [`FileError::Io`].
    pub fn new(mut out: W, key: &KeyBytes, context: &[u8]) -> Result<Self, FileError> {
        let mut salt = [0; SALT_LEN];
        fill_random(&mut salt)?;
        let (chunks, commitment) = Chunks::new(key, &salt, context);
        out.write_all(&salt).and_then(|()| out.write_all(&commitment)).map_err(FileError::Io)?;
        Ok(Self { out, chunks, buffer: Buffer::new() })
    }

    /// Writes the last chunk. Gives what was written to, which is not flushed.
    ///
    /// # Errors
    /// [`FileError::Length`], [`FileError::Io`].
    pub fn finish(mut self) -> Result<W, FileError> {
        self.write_chunk()?;
        Ok(self.out)
    }

    fn write_chunk(&mut self) -> Result<(), FileError> {
        let sealed = self.chunks.seal(&mut self.buffer)?;
        self.out.write_all(sealed).map_err(FileError::Io)?;
        self.buffer.len = 0;
        Ok(())
    }
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let taken = self.buffer.take(content);
        if self.buffer.len == CHUNK_LEN {
            self.write_chunk()?;
        }
        Ok(taken)
    }

    /// What does not fill a chunk stays.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decrypts what it reads. It gives nothing that was not authenticated.
pub struct Decryptor<R> {
    from: R,
    chunks: Chunks,
    buffer: Buffer,
    /// How much of the chunk in the buffer was given.
    given: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The last chunk is in the buffer.
    Ending,
    /// The chunk after a bad one may be a good one, but there is no going on.
    Failed,
}

impl<R: Read> Decryptor<R> {
    /// Reads salt and commitment.
    ///
    /// # Errors
    /// [`FileError::Decryption`] if the key or the context is another one, [`FileError::Truncated`], [`FileError::Io`].
    pub fn new(mut from: R, key: &KeyBytes, context: &[u8]) -> Result<Self, FileError> {
        let mut prefix = [0; PREFIX_LEN];
        read_exact(&mut from, &mut prefix)?;
        let (salt, committed) = prefix.split_first_chunk().ok_or(FileError::Truncated)?;
        let (chunks, commitment) = Chunks::new(key, salt, context);
        if !bool::from(commitment.ct_eq(committed)) {
            return Err(FileError::Decryption);
        }
        Ok(Self { from, chunks, buffer: Buffer::new(), given: 0, state: State::Reading })
    }

    fn read_chunk(&mut self) -> Result<(), FileError> {
        self.buffer.len = 0;
        self.given = 0;
        let read = fill(&mut self.from, self.buffer.bytes.as_mut_slice())?;
        if read == 0 {
            // The last chunk would have been a shorter one.
            return Err(FileError::Truncated);
        }
        self.buffer.len = read.checked_sub(TAG_LEN).ok_or(FileError::Truncated)?;
        self.chunks.open(&mut self.buffer)?;
        if self.buffer.len < CHUNK_LEN {
            self.state = State::Ending;
        }
        Ok(())
    }
}

impl<R: Read> Read for Decryptor<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.given == self.buffer.len && self.state != State::Ending {
            if self.state == State::Failed {
                return Err(FileError::Decryption.into());
            }
            if let Err(error) = self.read_chunk() {
                self.state = State::Failed;
                (self.given, self.buffer.len) = (0, 0);
                return Err(error.into());
            }
        }
        let mut rest = self.buffer.bytes.get(self.given..self.buffer.len).unwrap_or_default();
        let read = rest.read(out)?;
        self.given += read;
        Ok(read)
    }
}

/// A chunk, and room for its tag.
struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    len: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: Zeroizing::new(vec![0; CHUNK_LEN + TAG_LEN]), len: 0 }
    }

    /// Takes as much as there is room for.
    fn take(&mut self, content: &[u8]) -> usize {
        let room = self.bytes.get_mut(self.len..CHUNK_LEN).unwrap_or_default();
        let taken = room.len().min(content.len());
        room[..taken].copy_from_slice(&content[..taken]);
        self.len += taken;
        taken
    }
}

/// The key of one message, and the number of the next chunk.
struct Chunks {
    cipher: InPlace<Aes256Gcm>,
    base_nonce: [u8; NONCE_LEN],
    next: u64,
}

impl Chunks {
    /// Derives key, base nonce and commitment.
    fn new(key: &KeyBytes, salt: &[u8; SALT_LEN], context: &[u8]) -> (Self, [u8; COMMITMENT_LEN]) {
        let mut derived = Zeroizing::new([0; KEY_LEN + NONCE_LEN + COMMITMENT_LEN]);
        wiping(|| {
            // HMAC pads its key with zeros (RFC 2104 section 2), so these are the same key; the crate wants one of the hash's length.
            let mut padded = Zeroizing::new([0; 64]);
            padded[..KEY_LEN].copy_from_slice(key.as_bytes());
            if let Ok(hkdf) = Hkdf::<Sha512>::from_prk(padded.as_slice()) {
                // It fails for more than 255 times the length of the hash only.
                let _ = hkdf.expand_multi_info(&[LABEL, salt, context], derived.as_mut_slice());
            }
        });
        let (chunk_key, rest) = derived.split_at(KEY_LEN);
        let (nonce, committed) = rest.split_at(NONCE_LEN);
        let (mut base_nonce, mut commitment) = ([0; NONCE_LEN], [0; COMMITMENT_LEN]);
        base_nonce.copy_from_slice(nonce);
        commitment.copy_from_slice(committed);
        let cipher = InPlace::new(|| {
            let mut key = aes_gcm::Key::<Aes256Gcm>::default();
            key.copy_from_slice(chunk_key);
            Aes256Gcm::new(&key)
        });
        (Self { cipher, base_nonce, next: 0 }, commitment)
    }

    /// The base nonce, with the number of the chunk in its last bytes.
    fn nonce(&mut self) -> Result<[u8; NONCE_LEN], FileError> {
        if self.next >= MOST_CHUNKS {
            return Err(FileError::Length);
        }
        let mut nonce = self.base_nonce;
        for (byte, number) in nonce.iter_mut().rev().zip(self.next.to_le_bytes()) {
            *byte ^= number;
        }
        self.next += 1;
        Ok(nonce)
    }

    fn seal<'a>(&mut self, buffer: &'a mut Buffer) -> Result<&'a [u8], FileError> {
        let nonce = self.nonce()?;
        let (content, rest) = buffer.bytes.split_at_mut_checked(buffer.len).ok_or(FileError::Length)?;
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce.into(), &[], content.into())
            .map_err(|_| FileError::Length)?;
        rest.first_chunk_mut::<TAG_LEN>().ok_or(FileError::Length)?.copy_from_slice(&tag);
        buffer.bytes.get(..buffer.len + TAG_LEN).ok_or(FileError::Length)
    }

    fn open(&mut self, buffer: &mut Buffer) -> Result<(), FileError> {
        let nonce = self.nonce()?;
        let (content, rest) = buffer.bytes.split_at_mut_checked(buffer.len).ok_or(FileError::Decryption)?;
        let tag = rest.first_chunk::<TAG_LEN>().ok_or(FileError::Decryption)?;
        self.cipher
            .decrypt_inout_detached(&nonce.into(), &[], content.into(), tag.into())
            .map_err(|_| FileError::Decryption)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn encrypted(key: &KeyBytes, context: &[u8], content: &[u8]) -> Vec<u8> {
        let mut encryptor = Encryptor::new(Vec::new(), key, context).unwrap();
        encryptor.write_all(content).unwrap();
        encryptor.finish().unwrap()
    }

    fn decrypted(key: &KeyBytes, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, FileError> {
        let mut content = Vec::new();
        Decryptor::new(bytes, key, context)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn every_length_comes_back() {
        let key = KeyBytes::generate().unwrap();
        for len in
            [0, 1, 15, 16, 1000, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN, 3 * CHUNK_LEN + 77]
        {
            let content: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let bytes = encrypted(&key, b"here", &content);
            assert_eq!(bytes.len() as u64, encrypted_len(len as u64));
            assert_eq!(decrypted(&key, b"here", &bytes).unwrap(), content);
            assert!(matches!(decrypted(&key, b"there", &bytes), Err(FileError::Decryption)));
            assert!(matches!(
                decrypted(&KeyBytes::generate().unwrap(), b"here", &bytes),
                Err(FileError::Decryption)
            ));
        }
    }

    #[test]
    fn nothing_changed_and_nothing_missing_is_taken() {
        let key = KeyBytes::generate().unwrap();
        let bytes = encrypted(&key, b"", &vec![7; CHUNK_LEN + 3]);
        for cut in 0..bytes.len() {
            assert!(decrypted(&key, b"", &bytes[..cut]).is_err(), "{cut}");
        }
        for at in (0..bytes.len()).step_by(61).chain(bytes.len() - 40..bytes.len()) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decrypted(&key, b"", &changed).is_err(), "{at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decrypted(&key, b"", &longer).is_err());
        assert_eq!(decrypted(&key, b"", &bytes).unwrap().len(), CHUNK_LEN + 3);
    }

    #[test]
    fn chunks_have_their_places() {
        let key = KeyBytes::generate().unwrap();
        let bytes = encrypted(&key, b"", &vec![7; 3 * CHUNK_LEN + 5]);
        let (prefix, chunks) = bytes.split_at(PREFIX_LEN);
        let chunks: Vec<&[u8]> = chunks.chunks(CHUNK_LEN + TAG_LEN).collect();
        for order in [
            &[0, 1, 2, 3][..],
            &[1, 0, 2, 3],
            &[0, 2, 3],
            &[0, 0, 1, 2, 3],
            &[0, 1, 2],
            &[3],
            &[0, 1, 2, 3, 3],
        ] {
            let moved: Vec<u8> =
                [prefix].into_iter().chain(order.iter().map(|at| chunks[*at])).collect::<Vec<_>>().concat();
            assert_eq!(decrypted(&key, b"", &moved).is_ok(), order == [0, 1, 2, 3], "{order:?}");
        }
        let other = encrypted(&key, b"", &vec![7; 3 * CHUNK_LEN + 5]);
        let spliced =
            [&bytes[..PREFIX_LEN + CHUNK_LEN + TAG_LEN], &other[PREFIX_LEN + CHUNK_LEN + TAG_LEN..]].concat();
        assert!(decrypted(&key, b"", &spliced).is_err());
    }

    #[test]
    fn what_follows_an_error_is_nothing() {
        let key = KeyBytes::generate().unwrap();
        let mut bytes = encrypted(&key, b"", &vec![7; 2 * CHUNK_LEN]);
        bytes[PREFIX_LEN + CHUNK_LEN + TAG_LEN + 5] ^= 1;
        let mut decryptor = Decryptor::new(bytes.as_slice(), &key, b"").unwrap();
        let mut content = vec![0; CHUNK_LEN];
        decryptor.read_exact(&mut content).unwrap();
        assert!(decryptor.read(&mut content).is_err());
        assert!(decryptor.read(&mut content).is_err());
    }
}
