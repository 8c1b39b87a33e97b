//! [`Lookup`] and [`Answer`]: the request that travels down the stack and the result that comes back up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    BatchTurns, ChatId, Credential, CredentialId, Deadline, Instance, NotFound, PictureLink, Purpose,
    QueuePlace,
};

/// One moment on both clocks. Durations are measured on the monotonic clock; links expire by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: tokio's, which a test can stop.
    pub instant: Instant,
    /// The wall clock, which may jump.
    pub wall: SystemTime,
}

/// The part of a key without the contact: the instance and the credential. An answer for one credential is
/// never given to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The instance that is asked.
    pub instance: Instance,
    /// The credential of the request.
    pub credential: CredentialId,
}

/// The identity of a look-up. Two look-ups with the same key would send Hypersender the same request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The instance and the credential.
    pub scope: Scope,
    /// The contact.
    pub chat: ChatId,
}

/// A request for the picture of one contact.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The instance, the credential and the contact.
    pub key: Key,
    /// The token for the request; `key` holds its id.
    pub credential: Credential,
    /// The answers that the caller accepts from the cache.
    pub control: CacheControl,
    /// Until when the answer is useful.
    pub deadline: Deadline,
    /// The side that the look-up is for. A flight may have other waiters, too, so its layers read
    /// [`Lookup::purpose`].
    pub own_purpose: Purpose,
    /// The turns of the batch that this look-up belongs to; `None` outside a batch.
    pub batch: Option<BatchTurns>,
    /// The place from which it takes a spare turn; `None` when it takes other turns.
    pub place: Option<QueuePlace>,
    /// Whether it may join the flight of another look-up, but not start one.
    pub joins_only: bool,
    /// The number of attempts that the same fetch has made before.
    pub resent: u32,
    /// Whether this attempt is the probe of a circuit breaker. All other calls of the instance wait for it.
    pub is_probe: bool,
    /// When Hypersender was asked for the stored answer that the caller saw and did not accept.
    pub seen: Option<Instant>,
    /// Whether the shared store did not answer this look-up, which therefore goes on without it.
    pub without_store: bool,
    /// The same for the turns of a fetch, whose attempts share it. `None` outside a fetch.
    pub store_loss: Option<StoreLoss>,
}

/// Whether the shared store has failed to answer one of the attempts of a fetch. Clones share it, so that the
/// fetch loses one time-out at most (rule 53).
#[derive(Clone, Debug, Default)]
pub struct StoreLoss(Arc<AtomicBool>);

impl StoreLoss {
    /// Notes that the store did not answer.
    pub fn note(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether that has happened.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Lookup {
    /// The look-up of a caller.
    #[must_use]
    pub fn new(
        instance: Instance,
        credential: Credential,
        chat: ChatId,
        control: CacheControl,
        deadline: Deadline,
    ) -> Self {
        let scope = Scope { instance, credential: credential.id() };
        Self {
            key: Key { scope, chat },
            credential,
            control,
            deadline,
            own_purpose: Purpose::Caller,
            batch: None,
            place: None,
            joins_only: false,
            resent: 0,
            is_probe: false,
            seen: None,
            without_store: false,
            store_loss: None,
        }
    }

    /// The purpose as of now: the highest of those that wait for the flight of this look-up, or its own while
    /// no flight has waiters. Read it again before each decision.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.deadline.purpose().unwrap_or(self.own_purpose)
    }
}

/// The answers that a caller accepts from the cache. `None` leaves the choice to the server's settings. Names
/// follow RFC 9111 and RFC 5861.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// The greatest acceptable age of an answer. It is ignored within the refresh floor after Hypersender was
    /// asked.
    pub max_age: Option<Duration>,
    /// The shortest time for which the link must still work.
    pub min_fresh: Option<Duration>,
    /// How long after the end of its lifetime an answer is still acceptable to the caller. Zero accepts no
    /// stale answer.
    pub stale_if_error: Option<Duration>,
    /// Whether Hypersender must not be asked.
    pub only_if_cached: bool,
}

/// A statement of Hypersender's about a contact. The cache stores nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The contact has a picture, at this link.
    Picture(PictureLink),
    /// There is no picture to show.
    Absent(Absence),
    /// There is no such contact.
    NotFound(NotFound),
}

/// Why there is no picture to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Hypersender answers null. That may also mean that it could not find out.
    Null,
    /// The link leads to a host that is not allowed. It is a default image, so there certainly is no picture.
    ForeignLink,
}

/// An answer on its way to a caller.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Hypersender's statement.
    pub finding: Finding,
    /// When Hypersender made it.
    pub fetched: Now,
    /// How long the request took. A null after a long wait is less reliable.
    pub took: Duration,
    /// How the answer was found.
    pub cache: CacheInfo,
}

/// How an answer was found. Names follow RFC 9211.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Where the answer came from.
    pub status: CacheStatus,
    /// The age of the answer; zero when it was fetched for this call.
    pub age: Duration,
    /// The remaining lifetime.
    pub ttl: Ttl,
    /// Whether this call waited for a fetch that another call had started.
    pub collapsed: bool,
    /// Whether the flight ended with an answer of the shared store, which was good enough for the call that
    /// started the flight. Calls that joined it decide for themselves.
    pub is_read: bool,
}

impl CacheInfo {
    /// The value for an answer that has just been fetched and is not stored yet.
    pub const FETCHED: Self = Self {
        status: CacheStatus::Miss,
        age: Duration::ZERO,
        ttl: Ttl::Left(Duration::ZERO),
        collapsed: false,
        is_read: false,
    };
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache, and fresh.
    Hit,
    /// Fetched, because nothing was stored.
    Miss,
    /// Fetched, because the stored answer has outlived its lifetime.
    Expired,
    /// Fetched, because the caller does not accept the stored answer.
    Refreshed,
    /// From the cache, after the end of its lifetime.
    Stale,
}

/// The remaining lifetime of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The answer stays fresh for this long.
    Left(Duration),
    /// The answer has not been fresh for this long.
    Past(Duration),
}

impl Ttl {
    /// The remaining lifetime at `now`, when the lifetime ends at `end`.
    #[must_use]
    pub fn until(end: Instant, now: Instant) -> Self {
        match end.checked_duration_since(now) {
            Some(left) => Self::Left(left),
            None => Self::Past(now.duration_since(end)),
        }
    }
}
