//! Search hashes that were made lately. The constant of a query is compared with every row, and opened once.

use super::search::SearchHash;
use std::hash::{DefaultHasher, Hash, Hasher};
use zeroize::Zeroizing;

/// Enough for the constants of a query, and little memory: 256 KiB at most.
const SLOTS: usize = 256;
const MAX_LEN: usize = 1024;

/// Values and their hashes, each in the one slot that its bytes choose. Wiped when dropped.
pub struct Memo {
    slots: Vec<Option<(Zeroizing<Vec<u8>>, SearchHash)>>,
}

impl Memo {
    /// An empty one.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The hash of these bytes, if it is known.
    pub fn get(&self, bytes: &[u8]) -> Option<SearchHash> {
        match self.slots.get(slot(bytes)) {
            Some(Some((known, hash))) if known.as_slice() == bytes => Some(*hash),
            _ => None,
        }
    }

    /// Remembers the hash of these bytes, unless they are many.
    pub fn put(&mut self, bytes: &[u8], hash: SearchHash) {
        if bytes.len() > MAX_LEN {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        if let Some(slot) = self.slots.get_mut(slot(bytes)) {
            *slot = Some((Zeroizing::new(bytes.to_vec()), hash));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.clear();
    }
}

fn slot(bytes: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}
