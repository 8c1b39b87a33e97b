//! [`PictureCache`]: Hypersender's answers, for as long as they are useful.
//!
//! Failures are never stored, because a broken upstream must be asked again. Guards of the map live only in
//! the functions of this file and are gone when they return.
//!
//! Neither moka nor lru is used, for three reasons: a later answer changes a stored one in place under the
//! lock of its shard, a rejected token hides everything stored with it at once, and a hit only sets a mark.
//! The bench "eviction" compares the three caches.

mod boarding;
mod cooldown;
mod eviction;
mod fill;
mod freshness;
mod recorded;
mod serve;
mod shared;
mod standing;

use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry as MapEntry};
use parking_lot::Mutex;
use siphasher::sip128::{Hash128, Hasher128, SipHasher13};
use tokio::time::Instant;

pub use self::{
    cooldown::CoolDowns,
    fill::Fill,
    serve::{Serve, ServeFuture},
    standing::Trust,
};
use self::{
    eviction::{Digest, Sieve},
    freshness::{Entry, Since},
    standing::{Row, Standing, Standings},
};
use crate::{
    domain::{Answer, Finding, Key, Scope},
    stack::upstream::LinkHosts,
    telemetry::LookupMetrics as Metrics,
};

/// The bounds of the cache, and the lifetimes in it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The longest lifetime of a link.
    pub ttl: Duration,
    /// The lifetime of an absent picture.
    pub absent_ttl: Duration,
    /// The most entries; 0 stores nothing.
    pub entries: usize,
    /// The most bytes of memory, as estimated by `entry_bytes`.
    pub bytes: usize,
    /// How long after the end of its lifetime an answer is served while it is renewed in the background.
    pub stale_while_revalidate: Duration,
    /// How long after the end of its lifetime an answer is served when the fetch fails.
    pub stale_if_error: Duration,
    /// A key with an answer that can be served is not fetched again within this time.
    pub refresh_floor: Duration,
    /// A link stops being fresh this long before it expires.
    pub link_margin: Duration,
    /// The hosts that links may lead to. Answers of the shared store may be older than this setting.
    pub link_hosts: LinkHosts,
}

impl Default for Settings {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            ttl: 60 * MINUTE,
            absent_ttl: 10 * MINUTE,
            entries: 100_000,
            bytes: 96 << 20,
            stale_while_revalidate: 15 * MINUTE,
            stale_if_error: 24 * 60 * MINUTE,
            refresh_floor: Duration::from_secs(30),
            link_margin: 10 * MINUTE,
            link_hosts: LinkHosts::default(),
        }
    }
}

/// How far the same moment on the clock of the store may lie apart here when it is converted twice. Two
/// answers for one contact are much further apart.
const CLOCK_ERROR: Duration = Duration::from_secs(1);

/// Stored answers by key, bounded in number and bytes. A hit takes only the shared lock of one shard of the
/// map.
///
/// Keys are stored as 128-bit hashes with a key that is new in each process. A collision is less likely than
/// a memory error, callers cannot cause one, and no phone number stays in memory.
#[derive(Debug)]
pub struct PictureCache {
    // Boxed, because half the buckets of the map are empty.
    map: DashMap<Digest, Box<Slot>, BuildHasherDefault<DigestHasher>>,
    order: Mutex<Sieve>,
    bytes: AtomicUsize,
    hasher: KeyHasher,
    standings: Arc<Standings>,
    /// The row of slots whose answer was dropped.
    dropped: Row,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// What came of an answer that was stored.
#[derive(Debug)]
struct Settled {
    entry: Entry,
    /// Whether the picture that was known before is another one now, or gone.
    is_change: bool,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    standing: Row,
    /// Whether the entry was hit since eviction last looked at it.
    hit: AtomicBool,
}

impl PictureCache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            map: DashMap::default(),
            order: Mutex::default(),
            bytes: AtomicUsize::new(0),
            hasher: KeyHasher(SipHasher13::new_with_key(&rand::random())),
            standings: Arc::default(),
            dropped: Standing::hidden(),
            settings,
            metrics,
        }
    }

    /// The number of stored answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The bytes that the stored answers take, as estimated by `entry_bytes`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed) + self.standings.bytes()
    }

    /// Whether Hypersender rejects the token of `scope`, as far as this process keeps track of it.
    fn is_revoked(&self, scope: &Scope) -> bool {
        self.standings.is_revoked(scope)
    }

    /// Trust in the token of `scope` from now on.
    pub fn trust(&self, scope: &Scope) -> Trust {
        Trust::begin(&self.standings, scope)
    }

    fn get(&self, key: &Key) -> Option<Entry> {
        let slot = self.map.get(&self.digest(key)).filter(|slot| !slot.standing.is_revoked())?;
        // A store would invalidate the cache line on all cores, and the mark is mostly set already.
        if !slot.hit.load(Relaxed) {
            slot.hit.store(true, Relaxed);
        }
        Some(slot.entry.clone())
    }

    /// Hides everything that is stored under `scope`, whose token was rejected at `at`, until Hypersender
    /// answers an attempt for the scope that began later.
    fn revoke(&self, scope: &Scope, at: Instant) {
        self.standings.revoke(scope, at);
    }

    /// Combines `answer` with the stored entry, stores the result and returns it. `known` takes the place of
    /// the stored entry when memory has none.
    fn settle(&self, key: &Key, answer: &Answer, spread: f64, known: Option<Entry>) -> Settled {
        let began = answer.fetched.instant;
        let began = began.checked_sub(answer.took).unwrap_or(began);
        let mut is_change = false;
        let entry = self.put(key, Some(began), |previous, _| {
            let previous = previous.or(known);
            let entry = Entry::settle(previous.clone(), answer, spread, &self.settings);
            is_change = recorded::is_change(previous.as_ref(), &entry);
            Some(entry)
        });
        Settled { entry: entry.expect("an answer is always an entry"), is_change }
    }

    /// Stores what `change` makes of the stored entry, and returns it. `began` is the start of the attempt
    /// that the change comes from; `None` when it is not known, which lifts no rejection. `change` learns
    /// whether the token was rejected or the answer dropped since then, and may decline.
    fn put(
        &self,
        key: &Key,
        began: Option<Instant>,
        change: impl FnOnce(Option<Entry>, bool) -> Option<Entry>,
    ) -> Option<Entry> {
        let digest = self.digest(key);
        let row = |kept: Option<&Row>| kept.cloned().unwrap_or_else(|| self.standings.of(&key.scope));
        let mut is_new = false;
        let entry = match self.map.entry(digest) {
            MapEntry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                let kept = (!self.is_dropped(&slot.standing)).then_some(&slot.standing);
                let previous = kept.is_some().then(|| slot.entry.clone());
                let standing = row(kept);
                if let Some(began) = began {
                    standing.restore(began);
                }
                // A read of the old answer may end after the news that it is another one now.
                let was_dropped = previous.is_none()
                    && began.is_none_or(|began| began + CLOCK_ERROR < slot.entry.fetched.instant);
                let Some(entry) = change(previous, was_dropped || standing.is_revoked()) else {
                    self.standings.release(standing);
                    return None;
                };
                self.exchange_bytes(entry_bytes(&slot.entry), entry_bytes(&entry));
                (slot.entry, slot.standing) = (entry.clone(), standing);
                entry
            }
            MapEntry::Vacant(vacant) => {
                let standing = row(None);
                if let Some(began) = began {
                    standing.restore(began);
                }
                let Some(entry) = change(None, standing.is_revoked()) else {
                    self.standings.release(standing);
                    return None;
                };
                self.exchange_bytes(0, entry_bytes(&entry));
                let slot = Slot { entry: entry.clone(), standing, hit: AtomicBool::new(false) };
                vacant.insert(Box::new(slot));
                is_new = true;
                entry
            }
        };
        self.keep_within_bounds(is_new.then_some(digest));
        Some(entry)
    }

    fn exchange_bytes(&self, before: usize, after: usize) {
        self.bytes.fetch_add(after, Relaxed);
        self.bytes.fetch_sub(before, Relaxed);
    }

    /// Queues the new entry and evicts entries until the bounds are met. The hand visits one entry in each
    /// step.
    fn keep_within_bounds(&self, new: Option<Digest>) {
        let mut order = self.order.lock();
        if let Some(digest) = new {
            order.push(digest);
        }
        let limit = self.settings.entries.min(Sieve::ENTRIES_MAX);
        while order.len() > limit || self.bytes() > self.settings.bytes {
            let take_mark = |digest| {
                let slot = self.map.get(&digest);
                slot.is_some_and(|slot| slot.hit.swap(false, Relaxed))
            };
            let Some(digest) = order.evict(take_mark) else {
                break;
            };
            if let Some((_, slot)) = self.map.remove(&digest) {
                self.bytes.fetch_sub(entry_bytes(&slot.entry), Relaxed);
                self.standings.release(slot.standing);
            }
        }
        self.metrics.stored(order.len(), self.bytes());
    }

    fn digest(&self, key: &Key) -> Digest {
        let mut hasher = self.hasher.0;
        key.hash(&mut hasher);
        let Hash128 { h1, h2 } = hasher.finish128();
        Digest(h1, h2)
    }
}

/// An estimate of the memory for an entry: its allocations, its buckets in the map and the queue, and an
/// eighth for the fragmentation that grows as entries come and go. The bench "memory" compares it with the
/// resident memory.
#[must_use]
fn entry_bytes(entry: &Entry) -> usize {
    /// The bucket in the map (key, pointer, control byte) right after the map has grown, when 7 of 16 buckets
    /// are taken, and the node in the queue.
    const BUCKETS: usize = (size_of::<Digest>() + size_of::<Box<Slot>>() + 1) * 16 / 7 + 24;
    /// Allocators round up, and some put a word before each block.
    const fn block(bytes: usize) -> usize {
        (bytes + 8).next_multiple_of(16)
    }
    let link = |finding: &Finding| match finding {
        Finding::Picture(link) => block(link.url().len()),
        Finding::Absent(_) | Finding::NotFound(_) => 0,
    };
    let since = entry.since.as_ref().map_or(0, |since| block(size_of::<Since>()) + link(&since.finding));
    (BUCKETS + block(size_of::<Slot>()) + link(&entry.finding) + since) * 9 / 8
}

/// Makes digests of keys, with a random key that each process draws. `Debug` hides it.
struct KeyHasher(SipHasher13);

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(..)")
    }
}

/// The hasher of the map. A digest is a hash already.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a digest hashes as two numbers");
    }

    /// Both halves are equally good hashes, so it does not matter that only the last one is used.
    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

#[cfg(test)]
mod tests;
