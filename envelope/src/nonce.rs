//! Nonces from the operating system's generator.

use crate::NONCE_LEN;
use rand::TryRng;
use rand::rngs::SysRng;

/// Nonces fetched by one system call. 256 of 12 bytes are 3 KiB: one call for 256 values.
const NONCES_PER_FILL: usize = 256;
const POOL_LEN: usize = NONCES_PER_FILL * NONCE_LEN;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessError;

/// A pool of random 96-bit nonces (NIST SP 800-38D section 8.2.2), each handed out once.
///
/// The pool belongs to one process id. A forked child that finds its parent's pool throws it away, because both would
/// hand out the same nonces. Nothing here is a user-space generator: every byte comes from the kernel.
pub struct NoncePool {
    bytes: [u8; POOL_LEN],
    used: usize,
    process_id: u32,
}

impl NoncePool {
    /// An empty pool. It calls the operating system at the first use only.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; POOL_LEN], used: POOL_LEN, process_id: 0 }
    }

    /// The next nonce, for the process with this id.
    pub(crate) fn take(&mut self, process_id: u32) -> Result<[u8; NONCE_LEN], RandomnessError> {
        if self.used >= POOL_LEN || self.process_id != process_id {
            // Marked as used up first: a failed fill must not leave old bytes to be handed out again.
            self.used = POOL_LEN;
            fill_random(&mut self.bytes)?;
            self.process_id = process_id;
            self.used = 0;
        }
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&self.bytes[self.used..self.used + NONCE_LEN]);
        self.used += NONCE_LEN;
        Ok(nonce)
    }
}

impl Default for NoncePool {
    fn default() -> Self {
        Self::new()
    }
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), RandomnessError> {
    SysRng.try_fill_bytes(bytes).map_err(|_| RandomnessError)
}

#[cfg(test)]
mod tests {
    use super::{NONCES_PER_FILL, NoncePool};
    use std::collections::HashSet;

    #[test]
    fn never_repeats_within_a_process() {
        let mut pool = NoncePool::new();
        let nonces: HashSet<_> = (0..10 * NONCES_PER_FILL).map(|_| pool.take(7).ok()).collect();
        assert_eq!(nonces.len(), 10 * NONCES_PER_FILL);
    }

    #[test]
    fn a_forked_copy_does_not_continue_its_parents_pool() {
        let mut parent = NoncePool::new();
        parent.take(7).ok();
        let mut child = NoncePool { bytes: parent.bytes, used: parent.used, process_id: parent.process_id };
        let ours: HashSet<_> = (0..NONCES_PER_FILL).map(|_| parent.take(7).ok()).collect();
        let theirs: HashSet<_> = (0..NONCES_PER_FILL).map(|_| child.take(8).ok()).collect();
        assert!(ours.is_disjoint(&theirs));
    }
}
