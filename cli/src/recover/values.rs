//! The text of a value of any type, with the ciphertexts in it opened: the value itself, elements of arrays, fields of composite types,
//! bounds of ranges, strings in JSON, in any depth.

use super::bytea;
use super::keyring::{Keyring, Reason, decode};
use super::nested::{self, Shape};
use memchr::memmem;
use prism_envelope::{Envelope, KeyVersion, MasterKey, armor};
use std::collections::BTreeMap;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `encrypted_text`: each value is ciphertext.
    Encrypted,
    /// Text, which may be a text form, or JSON that has some.
    Text,
    /// Bytes, which may be an envelope.
    Bytes,
    /// Arrays, composite types, domains and ranges of `encrypted_text`: what begins like ciphertext is.
    EncryptedParts,
    /// Anything else: other such types, JSON.
    Nested,
}

/// How deep arrays and composite values may be in each other. PostgreSQL has arrays of 6 dimensions.
const MAX_DEPTH: usize = 24;

/// Opens what is in texts, and remembers how it went.
pub struct Opener<'a> {
    keyring: Keyring,
    master_keys: &'a [MasterKey],
    /// How many values were opened, by key version.
    pub opened: BTreeMap<KeyVersion, u64>,
    /// Why others were not, since this was last emptied.
    pub failures: Vec<Reason>,
}

impl<'a> Opener<'a> {
    /// One for the keys of a database.
    pub fn new(keyring: Keyring, master_keys: &'a [MasterKey]) -> Self {
        Self { keyring, master_keys, opened: BTreeMap::new(), failures: Vec::new() }
    }

    /// How many values were opened.
    pub fn total(&self) -> u64 {
        self.opened.values().sum()
    }

    /// The versions of the values that were opened although their key was disabled.
    pub fn opened_disabled(&self) -> Vec<KeyVersion> {
        let mut versions = self.keyring.disabled();
        versions.retain(|version| self.opened.contains_key(version));
        versions
    }

    /// The text with what is in it opened; `None` if it stays as it is.
    pub fn open(&mut self, kind: Kind, text: &[u8]) -> Option<Vec<u8>> {
        if !may_hold_ciphertext(text) {
            return None;
        }
        self.open_at(kind, text, 0)
    }

    fn open_at(&mut self, kind: Kind, text: &[u8], depth: usize) -> Option<Vec<u8>> {
        if armor::is_armored(text) && kind != Kind::Bytes {
            let is_ciphertext = decode(text).is_ok();
            let must_be = matches!(kind, Kind::Encrypted | Kind::EncryptedParts);
            return (must_be || is_ciphertext).then(|| self.text(text)).flatten();
        }
        match kind {
            Kind::Encrypted => None,
            Kind::Bytes => self.bytes(text),
            Kind::Text => match nested::json(text) {
                true => self.parts(kind, Shape::Json, text, depth),
                false => self.look_inside(text),
            },
            Kind::Nested | Kind::EncryptedParts if bytea_begins(text) => self.bytes(text),
            Kind::Nested | Kind::EncryptedParts => match nested::shape(text).filter(|_| depth < MAX_DEPTH) {
                Some(shape) => self.parts(kind, shape, text, depth),
                None => self.look_inside(text),
            },
        }
    }

    fn text(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        match self.keyring.open_text(text, self.master_keys) {
            Ok((version, plaintext)) => {
                *self.opened.entry(version).or_default() += 1;
                Some(plaintext.to_vec())
            }
            Err(reason) => {
                self.failures.push(reason);
                None
            }
        }
    }

    fn bytes(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let envelope = bytea::read(text)?;
        let parsed = Envelope::parse(&envelope).ok()?;
        // Any bytes may look like an envelope. These do if they say that they hold bytes, or if their key is known.
        if parsed.holds_text() && !self.keyring.knows(parsed.key_version()) {
            return None;
        }
        match self.keyring.open_bytes(&envelope, self.master_keys) {
            Ok((version, plaintext)) => {
                *self.opened.entry(version).or_default() += 1;
                Some(bytea::write(plaintext))
            }
            Err(reason) => {
                self.failures.push(reason);
                None
            }
        }
    }

    fn parts(&mut self, kind: Kind, shape: Shape, text: &[u8], depth: usize) -> Option<Vec<u8>> {
        let parts = nested::parts(shape, text)?;
        let mut out: Option<Vec<u8>> = None;
        let mut written = 0;
        for part in parts {
            let raw = &text[part.start..part.end];
            let Some(content) = part.content(raw).filter(|content| may_hold_ciphertext(content)) else {
                continue;
            };
            let kind = if shape == Shape::Json { Kind::Text } else { kind };
            if let Some(opened) = self.open_at(kind, &content, depth + 1) {
                let out = out.get_or_insert_with(Vec::new);
                out.extend_from_slice(&text[written..part.start]);
                out.extend(part.quoted(&opened));
                written = part.end;
            }
        }
        out.map(|mut out| {
            out.extend_from_slice(&text[written..]);
            out
        })
    }

    /// Ciphertext in the middle of a text is not opened, as nobody knows how the text around it is quoted. It is told of.
    fn look_inside(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let is_ciphertext = memmem::find_iter(text, b"prism:v").any(|at| {
            let rest = &text[at..];
            let in_base64 =
                |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b':');
            let length = rest.iter().position(|byte| !in_base64(byte)).unwrap_or(rest.len());
            decode(&rest[..length]).is_ok()
        });
        if is_ciphertext {
            self.failures.push(Reason::InsideText);
        }
        None
    }
}

/// Whether to look any further. Quick, as it is asked for each row.
pub fn may_hold_ciphertext(text: &[u8]) -> bool {
    memmem::find(text, b"prism:v").is_some()
        || memchr::memchr_iter(b'\\', text).any(|at| bytea_begins(&text[at..]))
}

/// Whether it begins as the text of a `bytea` whose first byte is that of an envelope.
fn bytea_begins(text: &[u8]) -> bool {
    text.starts_with(b"\\x01") || text.starts_with(b"\\001")
}
