//! One [`Lookup`] and its [`Answer`]: what travels down the stack and what comes back up.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{ChatId, Credential, CredentialId, Deadline, Instance, NotFound, PictureLink};

/// One moment on both clocks: durations are measured on the monotonic one, links expire on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic; tokio's, so that a test can stop it.
    pub instant: Instant,
    /// Wall clock; may jump.
    pub wall: SystemTime,
}

/// The part of a key that belongs to whoever asks: what one credential was told is never told to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Instance that is asked.
    pub instance: Instance,
    /// Credential it is asked with.
    pub credential: CredentialId,
}

/// What makes two look-ups the same: they would send Hypersender the same request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Instance and credential.
    pub scope: Scope,
    /// Contact.
    pub chat: ChatId,
}

/// A question about one contact.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// What is asked.
    pub key: Key,
    /// The token it is asked with; `key` holds its id.
    pub credential: Credential,
    /// What the caller accepts from the cache.
    pub control: CacheControl,
    /// When the answer is of no more use.
    pub deadline: Deadline,
    /// Who waits for it.
    pub purpose: Purpose,
    /// How many attempts of the same fetch went before.
    pub resent: u32,
    /// When the answer in the cache, that the asker saw and did not take, was fetched.
    pub seen: Option<Instant>,
}

impl Lookup {
    /// A caller's question.
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
            purpose: Purpose::Caller,
            resent: 0,
            seen: None,
        }
    }
}

/// Who a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody waits for the answer.
    Caller,
    /// Nobody waits: a stored answer is renewed in the background, in one attempt, and never waits for a turn.
    Refresh,
}

/// What a caller accepts from the cache. `None` leaves it to the server's policy. Names follow RFC 9111 and RFC 5861.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// Oldest acceptable answer, unless Hypersender was asked within the refresh floor.
    pub max_age: Option<Duration>,
    /// How long the link should keep working.
    pub min_fresh: Option<Duration>,
    /// How far beyond its lifetime an answer may be; zero: no stale answer at all.
    pub stale_if_error: Option<Duration>,
    /// Never ask Hypersender.
    pub only_if_cached: bool,
}

/// What Hypersender says about a contact: the only things worth storing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// There is a link to a picture.
    Picture(PictureLink),
    /// There is no picture to show.
    Absent(Absence),
    /// There is no such contact.
    NotFound(NotFound),
}

/// Why there is no picture to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Hypersender says null, which may also mean that it could not find out.
    Null,
    /// The link leads to a host that links may not lead to: a default image, and no doubt about it.
    ForeignLink,
}

/// An answer on its way to a caller.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What Hypersender said.
    pub finding: Finding,
    /// When it said so.
    pub fetched: Now,
    /// How long it took to say so; null after a long wait is less to be trusted.
    pub took: Duration,
    /// How the answer was found.
    pub cache: CacheInfo,
}

/// How an answer was found. Names follow RFC 9211.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Where the answer came from.
    pub status: CacheStatus,
    /// Its age; zero when it was fetched for this call.
    pub age: Duration,
    /// How much longer it counts as fresh.
    pub ttl: Ttl,
    /// Whether this call waited for a fetch that another had started.
    pub collapsed: bool,
}

impl CacheInfo {
    /// For an answer that has just been fetched and is not stored yet.
    pub const FETCHED: Self = Self {
        status: CacheStatus::Miss,
        age: Duration::ZERO,
        ttl: Ttl::Left(Duration::ZERO),
        collapsed: false,
    };
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache, fresh.
    Hit,
    /// Fetched: nothing was stored.
    Miss,
    /// Fetched: what was stored is too old for the policy.
    Expired,
    /// Fetched: the caller wanted a newer one.
    Refreshed,
    /// From the cache, beyond its lifetime.
    Stale,
}

/// The remaining lifetime of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Fresh for this much longer.
    Left(Duration),
    /// Not fresh since this long.
    Past(Duration),
}

impl Ttl {
    /// What is left at `now` of a lifetime that ends at `end`.
    #[must_use]
    pub fn until(end: Instant, now: Instant) -> Self {
        match end.checked_duration_since(now) {
            Some(left) => Self::Left(left),
            None => Self::Past(now.duration_since(end)),
        }
    }
}
