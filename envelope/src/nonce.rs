//! Nonces from the operating system's generator.

use crate::NONCE_LEN;
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroize;

/// Nonces fetched by the first system call for an owner. Each further call fetches twice as many, up to [`LARGEST_FILL`].
const FIRST_FILL: usize = 8;
/// The most nonces fetched by one system call. 256 of 12 bytes are 3 KiB.
const LARGEST_FILL: usize = 256;
const POOL_LEN: usize = LARGEST_FILL * NONCE_LEN;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessError;

/// Whom a pool's nonces are for: a transaction of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceOwner {
    /// The id of the process.
    pub process_id: u32,
    /// A different number for each transaction of the process.
    pub transaction: u64,
}

/// A pool of random 96-bit nonces (NIST SP 800-38D section 8.2.2), each handed out once.
///
/// The pool belongs to one [`NonceOwner`]; for another it is refilled. Otherwise a forked child would hand out the same
/// nonces as its parent. So would both copies of a machine that was cloned or restored from a snapshot, where process ids are
/// the same. What keeps those apart is that a pool never outlives its transaction and is wiped at its end. Nothing here is a
/// user-space generator: every byte comes from the kernel.
pub struct NoncePool {
    bytes: [u8; POOL_LEN],
    used: usize,
    filled: usize,
    owner: NonceOwner,
}

impl NoncePool {
    /// An empty pool. It calls the operating system only on first use.
    #[must_use]
    pub const fn new() -> Self {
        let owner = NonceOwner { process_id: 0, transaction: 0 };
        Self { bytes: [0; POOL_LEN], used: 0, filled: 0, owner }
    }

    /// Forgets the nonces that were not handed out.
    pub fn wipe(&mut self) {
        if let Some(left) = self.bytes.get_mut(self.used..self.filled) {
            left.zeroize();
        }
        (self.used, self.filled) = (0, 0);
    }

    /// The next nonce for this owner.
    #[inline]
    pub(crate) fn take(&mut self, owner: NonceOwner) -> Result<&[u8; NONCE_LEN], RandomnessError> {
        if self.used >= self.filled || self.owner != owner {
            self.fill(owner)?;
        }
        let left = self.bytes.get(self.used..self.filled).ok_or(RandomnessError)?;
        self.used += NONCE_LEN;
        // Borrowed, because it goes to two places: the copy of a copy would wait for the first.
        left.first_chunk().ok_or(RandomnessError)
    }

    #[cold]
    fn fill(&mut self, owner: NonceOwner) -> Result<(), RandomnessError> {
        let len = if self.owner == owner && self.filled > 0 {
            (2 * self.filled).min(POOL_LEN)
        } else {
            FIRST_FILL * NONCE_LEN
        };
        // Emptied first: a failed fill must not leave old bytes to be handed out again.
        self.wipe();
        fill_random(&mut self.bytes[..len])?;
        (self.filled, self.owner) = (len, owner);
        Ok(())
    }
}

impl Default for NoncePool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NoncePool {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), RandomnessError> {
    SysRng.try_fill_bytes(bytes).map_err(|_| RandomnessError)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{FIRST_FILL, LARGEST_FILL, NonceOwner, NoncePool};
    use crate::NONCE_LEN;
    use std::collections::HashSet;

    const OWNER: NonceOwner = NonceOwner { process_id: 7, transaction: 1 };

    /// The copy of a pool in a forked process or a cloned machine.
    fn copy_of(pool: &NoncePool) -> NoncePool {
        NoncePool { bytes: pool.bytes, used: pool.used, filled: pool.filled, owner: pool.owner }
    }

    fn assert_disjoint(a: (&mut NoncePool, NonceOwner), b: (&mut NoncePool, NonceOwner)) {
        let ours: HashSet<_> = (0..LARGEST_FILL).map(|_| *a.0.take(a.1).unwrap()).collect();
        let theirs: HashSet<_> = (0..LARGEST_FILL).map(|_| *b.0.take(b.1).unwrap()).collect();
        assert!(ours.is_disjoint(&theirs));
    }

    #[test]
    fn never_repeats_within_a_transaction() {
        let mut pool = NoncePool::new();
        let nonces: HashSet<_> = (0..10 * LARGEST_FILL).map(|_| *pool.take(OWNER).unwrap()).collect();
        assert_eq!(nonces.len(), 10 * LARGEST_FILL);
    }

    #[test]
    fn a_forked_copy_does_not_continue_its_parents_pool() {
        let mut parent = NoncePool::new();
        parent.take(OWNER).unwrap();
        let mut child = copy_of(&parent);
        assert_disjoint((&mut parent, OWNER), (&mut child, NonceOwner { process_id: 8, ..OWNER }));
    }

    #[test]
    fn copies_of_a_machine_part_with_the_next_transaction() {
        let mut pool = NoncePool::new();
        pool.take(OWNER).unwrap();
        let mut copy = copy_of(&pool);
        let next = NonceOwner { transaction: 2, ..OWNER };
        assert_disjoint((&mut pool, next), (&mut copy, next));
    }

    #[test]
    fn nothing_is_left_after_the_end_of_a_transaction() {
        let mut pool = NoncePool::new();
        let first = *pool.take(OWNER).unwrap();
        pool.wipe();
        assert_eq!(pool.bytes[..NONCE_LEN], first);
        assert!(pool.bytes[NONCE_LEN..].iter().all(|byte| *byte == 0));
        // Also for the same owner: the transaction goes on in a copy of the machine.
        let mut copy = copy_of(&pool);
        assert_disjoint((&mut pool, OWNER), (&mut copy, OWNER));
    }

    #[test]
    fn fills_double_within_a_transaction() {
        let mut pool = NoncePool::new();
        let mut fills = Vec::new();
        for _ in 0..4 * LARGEST_FILL {
            pool.take(OWNER).unwrap();
            if pool.used == NONCE_LEN {
                fills.push(pool.filled / NONCE_LEN);
            }
        }
        assert_eq!(fills[..8], [8, 16, 32, 64, 128, 256, 256, 256]);
        pool.take(NonceOwner { transaction: 2, ..OWNER }).unwrap();
        assert_eq!(pool.filled, FIRST_FILL * NONCE_LEN);
    }
}
