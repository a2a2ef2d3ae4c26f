//! Recently made search tags. A query's constant is compared with every row, but opened only once.

use prism_envelope::SearchTag;
use std::hash::{DefaultHasher, Hasher};
use zeroize::Zeroizing;

/// Enough for the constants of a query, and little memory: 256 KiB at most.
const SLOTS: usize = 256;
/// The longest value that is remembered, in bytes.
pub const MAX_LEN: usize = 1024;

type Entry = (Zeroizing<Vec<u8>>, SearchTag);

/// Values and their tags, each in the one slot that its bytes select. Wiped when dropped.
pub struct TagCache {
    slots: Vec<Option<Entry>>,
    /// Where the last one was found: most queries have one constant.
    last: usize,
    choose: fn(&[u8]) -> u64,
}

impl TagCache {
    /// An empty cache. `choose` gives a number that scatters the values.
    pub const fn new(choose: fn(&[u8]) -> u64) -> Self {
        Self { slots: Vec::new(), last: 0, choose }
    }

    /// The tag of these bytes, if it is known.
    #[inline]
    pub fn get(&mut self, bytes: &[u8]) -> Option<SearchTag> {
        match self.slots.get(self.last) {
            Some(Some((known, tag))) if known.as_slice() == bytes => Some(*tag),
            Some(_) => self.get_otherwise(bytes),
            None => None,
        }
    }

    fn get_otherwise(&mut self, bytes: &[u8]) -> Option<SearchTag> {
        let slot = self.slot(bytes);
        let (known, tag) = self.slots.get(slot)?.as_ref()?;
        (known.as_slice() == bytes).then(|| {
            self.last = slot;
            *tag
        })
    }

    /// Remembers the tag of these bytes, unless they are longer than [`MAX_LEN`].
    pub fn put(&mut self, bytes: &[u8], tag: SearchTag) {
        if bytes.len() > MAX_LEN {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        self.last = self.slot(bytes);
        if let Some(slot) = self.slots.get_mut(self.last) {
            *slot = Some((Zeroizing::new(bytes.to_vec()), tag));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    fn slot(&self, bytes: &[u8]) -> usize {
        (self.choose)(bytes) as usize % SLOTS
    }
}

/// Scatters envelopes by their last bytes, which are part of a GCM tag.
pub fn scatter_envelopes(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |last| u64::from_le_bytes(*last))
}

/// Scatters texts.
pub fn scatter_texts(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
