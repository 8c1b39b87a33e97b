//! [`Sieve`]: the order in which entries leave a full cache.
//!
//! The algorithm is SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): a queue in the order of
//! arrival, and a hand that walks from the oldest entry to the newest. The hand skips an entry that was hit
//! since its last visit and evicts the first that was not. A hit only sets a mark, so it needs neither the
//! queue nor its lock.

/// Identifies an entry of the cache. It is stored in two halves, because a u128 would be aligned to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub u64, pub u64);

/// The queue and its hand. It holds digests only; the marks are stored with the entries.
#[derive(Debug)]
pub struct Sieve {
    nodes: Vec<Node>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    hand: u32,
}

#[derive(Debug)]
struct Node {
    digest: Digest,
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;

impl Default for Sieve {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE, hand: NONE }
    }
}

impl Sieve {
    /// The most entries that the queue can hold.
    pub const ENTRIES_MAX: usize = (u32::MAX - 1) as usize;

    /// The number of queued entries.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Queues a new entry. The caller ensures that no entry is queued twice.
    pub fn push(&mut self, digest: Digest) {
        let node = Node { digest, newer: NONE, older: self.newest };
        let at = if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = node;
            at
        } else {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer entries than ENTRIES_MAX")
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.nodes[newest as usize].newer = at,
        }
        self.newest = at;
    }

    /// Removes the next entry to evict from the queue. `take_mark` returns whether the entry was hit since
    /// the last visit, and clears the mark.
    pub fn evict(&mut self, mut take_mark: impl FnMut(Digest) -> bool) -> Option<Digest> {
        let mut at = if self.hand == NONE { self.oldest } else { self.hand };
        // The first round clears every mark, so the second round ends, even if there are hits meanwhile.
        for _ in 0..2 * self.len() {
            let node = &self.nodes[at as usize];
            if !take_mark(node.digest) {
                break;
            }
            at = match node.newer {
                NONE => self.oldest,
                newer => newer,
            };
        }
        (at != NONE).then(|| self.unlink(at))
    }

    fn unlink(&mut self, at: u32) -> Digest {
        let Node { digest, newer, older } = self.nodes[at as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
        self.hand = newer;
        self.free.push(at);
        digest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn digest(number: u64) -> Digest {
        Digest(number, number)
    }

    #[test]
    fn entries_without_a_hit_leave_in_order_of_arrival() {
        let mut sieve = Sieve::default();
        (1..=3).for_each(|number| sieve.push(digest(number)));
        let order: Vec<_> = std::iter::from_fn(|| sieve.evict(|_| false)).collect();
        assert_eq!(order, [1, 2, 3].map(digest));
        assert_eq!(sieve.len(), 0);
    }

    #[test]
    fn an_entry_that_was_hit_is_passed_over_once() {
        let mut sieve = Sieve::default();
        (1..=4).for_each(|number| sieve.push(digest(number)));
        let mut marks = HashSet::from([1, 2].map(digest));
        assert_eq!(sieve.evict(|it| marks.remove(&it)), Some(digest(3)));
        sieve.push(digest(5));
        // The hand continues from its place and does not start over. It soon reaches the newer entries and
        // evicts those that were never hit.
        assert_eq!(sieve.evict(|it| marks.remove(&it)), Some(digest(4)));
        assert_eq!(sieve.evict(|it| marks.remove(&it)), Some(digest(5)));
        assert_eq!(sieve.evict(|it| marks.remove(&it)), Some(digest(1)));
    }

    #[test]
    fn eviction_ends_although_every_entry_is_hit_again_and_again() {
        let mut sieve = Sieve::default();
        (1..=9).for_each(|number| sieve.push(digest(number)));
        assert!(sieve.evict(|_| true).is_some());
        assert_eq!(sieve.len(), 8);
    }
}
