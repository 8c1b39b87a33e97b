//! [`Store`]: the answers, cool-downs, turns and leases that outlive this process or are shared with its
//! replicas.
//!
//! The cache and the rate limit use it; nothing else does. A store makes answers better, and a call never
//! fails because of it: an operation that fails is [`Unavailable`], and the caller goes on without.

mod engine;
mod file;
mod horizon;
mod lease;
mod record;
mod settings;
mod time;
mod valkey;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::{
    engine::TurnMode,
    horizon::Horizon,
    lease::Lease,
    record::{FailureRecord, Record, SinceRecord, Stored},
    settings::{Place, Server, Settings},
    time::{StoreClock, StoreTime},
};
use crate::domain::{ChatId, Credential, Instance, Key, Scope};

/// The most contacts whose answers are read in one round trip.
pub const GROUP_MAX: usize = 64;

/// The store of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Parts>);

#[derive(Debug)]
struct Parts {}

/// The store did not answer in time, or not as it should. The caller goes on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// Why a store can never work with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Unusable {
    /// Which setting is at fault.
    pub setting: Setting,
    /// The fault. It holds no secret.
    pub fault: String,
}

/// The settings of a store that can be at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The URL or the path.
    Place,
    /// The password.
    Password,
    /// The authorities of the server's certificate.
    Ca,
}

/// What a caller has seen of a contact and does not accept, on the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The start of the attempt of an answer.
    pub answer: Option<StoreTime>,
    /// The beginning of the cool-down of the contact.
    pub failure: Option<StoreTime>,
    /// The beginning of the cool-down of the scope.
    pub scope_failure: Option<StoreTime>,
}

/// What the store knows of a contact at one moment.
#[derive(Debug)]
pub struct Reading {
    /// The answer, whether it is newer than the one seen or not. None that a rejected token hides.
    pub answer: Option<Stored>,
    /// The cool-down of the contact.
    pub failure: Option<FailureRecord>,
    /// The cool-down of the scope.
    pub scope_failure: Option<FailureRecord>,
    /// The lease of the fetch.
    pub lease: Leasing,
}

/// What came of a wish for a lease.
#[derive(Debug)]
pub enum Leasing {
    /// None was wished for, or something is stored that the caller has not seen.
    No,
    /// This look-up fetches.
    Taken(Lease),
    /// Another replica fetches. Ask again soon.
    Held,
}

/// A turn of an instance to take from the store.
#[derive(Clone, Copy, Debug)]
pub struct TurnRequest {
    /// How it is taken.
    pub mode: TurnMode,
    /// The distance of two turns once the burst is used up; zero when there is no limit.
    pub interval: Duration,
    /// How far ahead of an even spacing turns may be taken.
    pub slack: Duration,
    /// The latest instant at which the turn may come. Only [`TurnMode::Book`] reads it.
    pub latest: Instant,
}

/// The reply to a [`TurnRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnReply {
    /// When the turn that was taken comes, or how long it takes until one would come.
    pub turn: Result<Instant, Duration>,
    /// The end of the pause after a 429; in the past when there is none.
    pub paused_until: Instant,
}

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It does.
    Attached {
        /// The end of the last time without it, and how long that was. `None` when there was none.
        returned: Option<(Instant, Duration)>,
    },
    /// It does not, since this instant.
    Detached {
        /// The instant.
        since: Instant,
    },
}

/// The part of the cache that hears of the other replicas.
pub trait Listener: fmt::Debug + Send + Sync {
    /// Hypersender rejected the token of `scope` at `at`. Everything that was fetched with it before is
    /// hidden.
    fn rejected(&self, scope: &Scope, at: Instant);
    /// Another replica found at `asked_at` that the picture of `key` is another one or is gone.
    fn changed(&self, key: &Key, asked_at: Instant);
    /// The scopes with answers in memory.
    fn scopes(&self) -> Vec<Scope>;
}

impl Store {
    /// Opens the store. A server that cannot be reached is no error: it is looked for in the background.
    ///
    /// # Errors
    ///
    /// When the store can never work with these settings.
    pub async fn open(_settings: Settings) -> Result<Self, Unusable> {
        unimplemented!()
    }

    /// Tells `listener` what other replicas find.
    pub fn tell(&self, _listener: Arc<dyn Listener>) {
        unimplemented!()
    }

    /// The clock of the store.
    pub fn clock(&self) -> &StoreClock {
        unimplemented!()
    }

    /// Reads what is known of `key`, and takes the lease of the fetch if `wants_lease` and nothing is stored
    /// that was not `seen`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn read(
        &self,
        _key: &Key,
        _credential: &Credential,
        _seen: Seen,
        _wants_lease: bool,
    ) -> Result<Reading, Unavailable> {
        unimplemented!()
    }

    /// Reads the answers for up to 64 contacts of a scope in one round trip. The results are in the order of
    /// `chats`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn read_group(
        &self,
        _scope: &Scope,
        _credential: &Credential,
        _chats: &[ChatId],
    ) -> Result<Vec<Option<Stored>>, Unavailable> {
        unimplemented!()
    }

    /// Notes in the background that Hypersender rejected the token of `scope` at `at`, and announces it. While
    /// the store is away it is remembered and written first on return.
    pub fn reject(&self, _scope: &Scope, _credential: &Credential, _at: Instant) {
        unimplemented!()
    }

    /// Whether the store answers.
    pub fn attachment(&self) -> Attachment {
        unimplemented!()
    }

    /// Whether the turns of an instance are those of all replicas. Where they are not, the process has turns
    /// of its own and [`Self::remember`]s them.
    pub fn shares_turns(&self) -> bool {
        unimplemented!()
    }

    /// The most replicas at a time.
    pub fn replicas(&self) -> u32 {
        unimplemented!()
    }

    /// Takes a turn that all replicas share, or looks at the turns.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]. The turn may have been taken all the same, so the request is never repeated.
    pub async fn turn(&self, _instance: &Instance, _request: TurnRequest) -> Result<TurnReply, Unavailable> {
        unimplemented!()
    }

    /// Gives back, in the background, a turn that was booked and has not come yet.
    pub fn give_back(&self, _instance: &Instance, _turn: Instant, _request: TurnRequest) {
        unimplemented!()
    }

    /// Begins or lengthens the pause of an instance after a 429, for all replicas. Returns the end of the pause.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn push_back(
        &self,
        _instance: &Instance,
        _asked: Option<Duration>,
        _slack: Duration,
    ) -> Result<Instant, Unavailable> {
        unimplemented!()
    }

    /// How far ahead the turns of `instance` are booked, as far as this process knows, from replies and from
    /// what other replicas announced; or as the file said at the start.
    pub fn horizon(&self, _instance: &Instance) -> Option<Horizon> {
        unimplemented!()
    }

    /// Notes turns that this process took by itself: while the store is away, or with a file.
    pub fn remember(&self, _instance: &Instance, _horizon: Horizon) {
        unimplemented!()
    }

    /// Finishes what is still to be written, for at most a second.
    pub async fn close(&self) {
        unimplemented!()
    }
}
