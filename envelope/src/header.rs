//! Writes and reads the header of an envelope. `docs/format.md` has the byte table.

use crate::{ContextHash, FieldClass};

/// The format byte of the only format so far.
pub const FORMAT_V1: u8 = 0x01;
/// Length of the nonce in bytes: 96 bits, NIST SP 800-38D section 8.2.2.
pub const NONCE_LEN: usize = 12;
/// Length of the authentication tag in bytes: 128 bits.
pub const TAG_LEN: usize = 16;
/// Bytes an envelope adds to its plaintext when it has no optional part.
pub const MIN_OVERHEAD: usize = FIXED_LEN + TAG_LEN;
/// Bytes an envelope adds to its plaintext when it has all optional parts.
pub const MAX_OVERHEAD: usize = MIN_OVERHEAD + SearchTag::LEN + ContextHash::LEN;

const FIXED_LEN: usize = VERSION_AT + 4 + NONCE_LEN;
const FLAGS_AT: usize = 1;
const CLASS_AT: usize = 2;
const VERSION_AT: usize = 3;
const NONCE_AT: usize = VERSION_AT + 4;

const FLAG_SEARCH_TAG: u8 = 0b001;
const FLAG_CONTEXT: u8 = 0b010;
const FLAG_BYTES: u8 = 0b100;
const FLAGS_DEFINED: u8 = FLAG_SEARCH_TAG | FLAG_CONTEXT | FLAG_BYTES;

/// The version of a data key: 1 to 2^31 - 1, so that it fits an SQL `integer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(u32);

impl KeyVersion {
    /// The version with this number, or `None` when it is 0 or over 2^31 - 1.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (1..=i32::MAX.cast_unsigned()).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the plaintext is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Content {
    /// UTF-8 text.
    #[default]
    Text,
    /// Any bytes.
    Bytes,
}

/// The search tag: one byte for the generation of the index key, then 128 bits of keyed hash. [`crate::IndexKey`] makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SearchTag([u8; Self::LEN]);

impl SearchTag {
    /// Length in bytes.
    pub const LEN: usize = 1 + Self::HASH_LEN;
    /// Length of the keyed hash in bytes: 128 bits.
    pub const HASH_LEN: usize = 16;
    /// Placeholder for a tag that is not made yet: of generation 0, which no index key has.
    pub const UNMADE: Self = Self([0; Self::LEN]);

    /// A tag of this index-key generation.
    #[must_use]
    pub fn new(generation: u8, hash: [u8; Self::HASH_LEN]) -> Self {
        let mut bytes = [generation; Self::LEN];
        bytes[1..].copy_from_slice(&hash);
        Self(bytes)
    }

    /// The generation of the index key that made the hash.
    #[must_use]
    pub fn generation(&self) -> u8 {
        self.0[0]
    }

    /// The keyed hash.
    #[must_use]
    pub fn hash(&self) -> &[u8; Self::HASH_LEN] {
        let [_generation, hash @ ..] = &self.0;
        hash
    }

    /// The bytes as they appear in the header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// Everything in the header that the caller of a seal chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes {
    /// Text or bytes.
    pub content: Content,
    /// Field class.
    pub class: FieldClass,
    /// Search tag, if the value is searchable.
    pub search_tag: Option<SearchTag>,
    /// Context, if the value is bound to one.
    pub context: Option<ContextHash>,
}

impl Attributes {
    /// Length of the header in bytes.
    #[must_use]
    #[inline]
    pub fn header_len(&self) -> usize {
        header_len(self.flags())
    }

    /// Length in bytes of the envelope of a plaintext of `plaintext_len` bytes.
    #[must_use]
    #[inline]
    pub fn envelope_len(&self, plaintext_len: usize) -> usize {
        self.header_len() + plaintext_len + TAG_LEN
    }

    #[inline]
    fn flags(&self) -> u8 {
        let search_tag = if self.search_tag.is_some() { FLAG_SEARCH_TAG } else { 0 };
        let context = if self.context.is_some() { FLAG_CONTEXT } else { 0 };
        let bytes = if self.content == Content::Bytes { FLAG_BYTES } else { 0 };
        search_tag | context | bytes
    }

    /// Writes the header. `out` is [`Attributes::header_len`] bytes.
    #[inline]
    pub(crate) fn write_header(&self, version: KeyVersion, nonce: &[u8; NONCE_LEN], out: &mut [u8]) {
        let mut at = FIXED_LEN;
        if let Some(tag) = &self.search_tag {
            out[at..at + SearchTag::LEN].copy_from_slice(tag.as_bytes());
            at += SearchTag::LEN;
        }
        if let Some(context) = &self.context {
            out[at..at + ContextHash::LEN].copy_from_slice(context.as_bytes());
        }
        out[0] = FORMAT_V1;
        out[FLAGS_AT] = self.flags();
        out[CLASS_AT] = self.class.code();
        out[VERSION_AT..NONCE_AT].copy_from_slice(&version.get().to_be_bytes());
        out[NONCE_AT..FIXED_LEN].copy_from_slice(nonce);
    }
}

/// Length in bytes of a header with these flags.
#[inline]
fn header_len(flags: u8) -> usize {
    FIXED_LEN
        + if flags & FLAG_SEARCH_TAG == 0 { 0 } else { SearchTag::LEN }
        + if flags & FLAG_CONTEXT == 0 { 0 } else { ContextHash::LEN }
}

/// Why some bytes are not an envelope. Holds none of them, except a code of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Shorter than its own header and tag.
    #[error("it is shorter than an envelope can be")]
    Truncated,
    /// The format byte is not 0x01.
    #[error("format {0} is not known")]
    UnknownFormat(u8),
    /// A flag bit that has no meaning yet.
    #[error("a reserved flag is set")]
    ReservedFlag,
    /// A class code that has no meaning yet.
    #[error("field class {0} is not known")]
    UnknownClass(u8),
    /// A key version of 0 or over 2^31 - 1.
    #[error("the key version is out of range")]
    KeyVersion,
}

/// A well-formed envelope. Nothing is authenticated yet.
///
/// It is made for every value that is opened. So it only says where the parts are, and what they hold is read when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    key_version: KeyVersion,
    header: &'a [u8],
    nonce: &'a [u8; NONCE_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Envelope<'a> {
    /// How many leading bytes [`Envelope::peek_key_version`] reads.
    pub const PEEK_LEN: usize = NONCE_AT;
    /// How many leading bytes [`Envelope::peek_search_tag`] reads.
    pub const PEEK_TAG_LEN: usize = FIXED_LEN + SearchTag::LEN;

    /// Parses an envelope of any origin. Total: every input is an envelope or an error.
    ///
    /// # Errors
    /// [`FormatError`] says what is wrong.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let key_version = Self::peek(bytes, bytes.len())?;
        let (header, body) =
            bytes.split_at_checked(header_len(bytes[FLAGS_AT])).ok_or(FormatError::Truncated)?;
        let nonce = header.get(NONCE_AT..).and_then(<[u8]>::first_chunk).ok_or(FormatError::Truncated)?;
        let (ciphertext, tag) = body.split_last_chunk().ok_or(FormatError::Truncated)?;
        Ok(Self { key_version, header, nonce, ciphertext, tag })
    }

    /// The key version, from the first [`Envelope::PEEK_LEN`] bytes alone.
    ///
    /// # Errors
    /// [`FormatError`] when the front is not that of an envelope.
    #[inline(always)]
    pub fn peek_key_version(front: &[u8]) -> Result<KeyVersion, FormatError> {
        match front.first() {
            None => return Err(FormatError::Truncated),
            Some(&FORMAT_V1) => {}
            Some(&other) => return Err(FormatError::UnknownFormat(other)),
        }
        let number = front.get(VERSION_AT..).and_then(<[u8]>::first_chunk).ok_or(FormatError::Truncated)?;
        KeyVersion::new(u32::from_be_bytes(*number)).ok_or(FormatError::KeyVersion)
    }

    /// The key version of an envelope of `length` bytes, from its first [`Envelope::PEEK_LEN`] bytes (or all, if there are
    /// fewer). Finds every error that [`Envelope::parse`] finds, without the remaining bytes.
    ///
    /// # Errors
    /// The same [`FormatError`] as [`Envelope::parse`].
    #[inline(always)]
    pub fn peek(front: &[u8], length: usize) -> Result<KeyVersion, FormatError> {
        let key_version = Self::peek_key_version(front)?;
        let (flags, class) = (front[FLAGS_AT], front[CLASS_AT]);
        if flags & !FLAGS_DEFINED != 0 {
            return Err(FormatError::ReservedFlag);
        }
        if FieldClass::from_code(class).is_none() {
            return Err(FormatError::UnknownClass(class));
        }
        if length < header_len(flags) + TAG_LEN { Err(FormatError::Truncated) } else { Ok(key_version) }
    }

    /// The search tag, from the first [`Envelope::PEEK_TAG_LEN`] bytes alone (or all, if there are fewer). Nothing else is
    /// checked; `None` also if there is no room for a tag.
    #[must_use]
    #[inline]
    pub fn peek_search_tag(front: &[u8]) -> Option<SearchTag> {
        if front.get(FLAGS_AT)? & FLAG_SEARCH_TAG == 0 {
            return None;
        }
        front.get(FIXED_LEN..)?.first_chunk().map(|tag| SearchTag(*tag))
    }

    /// The attributes it was sealed with.
    #[must_use]
    #[inline]
    pub fn attributes(&self) -> Attributes {
        Attributes {
            content: if self.holds_text() { Content::Text } else { Content::Bytes },
            // The class is known: it was checked when the envelope was parsed.
            class: self
                .header
                .get(CLASS_AT)
                .and_then(|code| FieldClass::from_code(*code))
                .unwrap_or_default(),
            search_tag: Self::peek_search_tag(self.header),
            context: self.context(),
        }
    }

    /// Whether the plaintext is text.
    #[must_use]
    #[inline]
    pub fn holds_text(&self) -> bool {
        self.flags() & FLAG_BYTES == 0
    }

    /// The context it is bound to.
    #[must_use]
    #[inline]
    pub fn context(&self) -> Option<ContextHash> {
        let hash = if self.flags() & FLAG_CONTEXT == 0 { None } else { self.header.last_chunk() };
        hash.map(|hash| ContextHash::from_bytes(*hash))
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.header.get(FLAGS_AT).copied().unwrap_or_default()
    }

    /// The version of the data key that sealed it.
    #[must_use]
    #[inline]
    pub fn key_version(&self) -> KeyVersion {
        self.key_version
    }

    /// Length of the plaintext in bytes.
    #[must_use]
    #[inline]
    pub fn plaintext_len(&self) -> usize {
        self.ciphertext.len()
    }

    /// The whole header: the associated data.
    pub(crate) fn header(&self) -> &'a [u8] {
        self.header
    }

    pub(crate) fn nonce(&self) -> &'a [u8; NONCE_LEN] {
        self.nonce
    }

    pub(crate) fn ciphertext(&self) -> &'a [u8] {
        self.ciphertext
    }

    pub(crate) fn tag(&self) -> &'a [u8; TAG_LEN] {
        self.tag
    }
}
