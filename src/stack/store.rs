//! [`Store`]: the answers, cool-downs, turns and leases that outlive this process or are shared with its
//! replicas.
//!
//! The cache and the rate limit use it; nothing else does. A store makes answers better, and a call never
//! fails because of it: an operation that fails is [`Unavailable`], and the caller goes on without.

mod attachment;
mod backend;
mod booking;
mod engine;
mod file;
mod hearing;
mod horizon;
mod horizons;
mod keys;
mod lease;
mod news;
mod parts;
mod pending;
mod reading;
mod record;
mod revocation;
mod scopes;
mod seal;
mod settings;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod time;
mod unshared;
mod upkeep;
mod valkey;
mod waits;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use self::{backend::Backend, parts::Parts};

pub use self::{
    engine::{GROUP_MAX, Seen, TurnMode},
    horizon::{Horizon, UNSHARED},
    lease::Lease,
    record::{FailureRecord, Record, SinceRecord, Stored},
    settings::{Place, Server, Settings},
    time::{StoreClock, StoreTime},
};
use crate::{
    domain::{ChatId, Credential, Instance, Key, Scope},
    telemetry::StoreMetrics as Metrics,
};

/// The store of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    /// The upkeep ends with the last clone.
    _tasks: JoinSet<()>,
}

/// The beginning of the names in a file, which nothing else shares.
const FILE_PREFIX: &str = "hypersender-grpc";
/// The time for what is still to be written when the process stops.
const CLOSE_TIME: Duration = Duration::from_secs(1);

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
    /// Opens the store and counts into `metrics`. A server that cannot be reached is no error: it is looked
    /// for in the background.
    ///
    /// # Errors
    ///
    /// When the store can never work with these settings.
    pub async fn open(settings: Settings, metrics: Arc<Metrics>) -> Result<Self, Unusable> {
        let (backend, away) = Backend::open(&settings).await?;
        let prefix = match settings.place {
            Place::Server(server) => server.prefix,
            Place::File { .. } => FILE_PREFIX.to_owned(),
        };
        let parts = Parts::new(backend, prefix, settings.timeout, settings.replicas, metrics);
        let away = match away {
            Some(failed) => Some(failed),
            None => upkeep::probe(&parts).await.err(),
        };
        if let Some(failed) = away {
            parts.guard.detach(failed);
        }
        booking::recall(&parts);
        let tasks = upkeep::start(&parts);
        Ok(Self(Arc::new(Inner { parts, _tasks: tasks })))
    }

    /// Tells `listener` what other replicas find. A store has one listener; later ones are ignored.
    pub fn tell(&self, listener: Arc<dyn Listener>) {
        let _ = self.parts().listener.set(listener);
    }

    /// The clock of the store.
    pub fn clock(&self) -> &StoreClock {
        &self.parts().clock
    }

    /// Reads what is known of `key`, and takes the lease of the fetch if `wants_lease` and nothing is stored
    /// that was not `seen`. A cool-down that is over is also returned, because the next one follows from it;
    /// it and values that cannot be read do not keep the lease from the caller.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn read(
        &self,
        key: &Key,
        credential: &Credential,
        seen: Seen,
        wants_lease: bool,
    ) -> Result<Reading, Unavailable> {
        reading::read(self.parts(), key, credential, seen, wants_lease).await
    }

    /// Reads the answers for up to 64 contacts of a scope in one round trip. The results are in the order of
    /// `chats`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn read_group(
        &self,
        scope: &Scope,
        credential: &Credential,
        chats: &[ChatId],
    ) -> Result<Vec<Option<Stored>>, Unavailable> {
        reading::read_group(self.parts(), scope, credential, chats).await
    }

    /// Notes in the background that Hypersender rejected the token of `scope` at `at`, and announces it. This
    /// process reads nothing older of the scope from now on. While the store is away, the rejection is
    /// remembered and written first on return.
    pub fn reject(&self, scope: &Scope, credential: &Credential, at: Instant) {
        revocation::reject(self.parts(), scope, credential, at);
    }

    /// The rejection of the token of `scope` that hides an answer of an attempt that began at `asked_at`, as
    /// far as this process knows. Never in the future.
    pub fn rejection(&self, scope: &Scope, asked_at: StoreTime) -> Option<Instant> {
        let (parts, now) = (self.parts(), Instant::now());
        let rejected_at = parts.scopes.get(scope)?.rejected_at().filter(|rejected| asked_at <= *rejected)?;
        Some(parts.clock.instant(rejected_at)?.min(now))
    }

    /// Whether the store answers.
    pub fn attachment(&self) -> Attachment {
        self.parts().guard.attachment()
    }

    /// Whether the turns of an instance are those of all replicas. Where they are not, the process has turns
    /// of its own and [`Self::remember`]s them.
    pub fn shares_turns(&self) -> bool {
        self.parts().backend.shares_turns()
    }

    /// The most replicas at a time.
    pub fn replicas(&self) -> u32 {
        self.parts().replicas
    }

    /// Takes a turn that all replicas share, or looks at the turns.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]. The turn may have been taken all the same, so the request is never repeated.
    pub async fn turn(&self, instance: &Instance, request: TurnRequest) -> Result<TurnReply, Unavailable> {
        booking::turn(self.parts(), instance, request).await
    }

    /// Gives back, in the background, a turn that was booked and has not come yet.
    pub fn give_back(&self, instance: &Instance, turn: Instant, request: TurnRequest) {
        booking::give_back(self.parts(), instance, turn, request);
    }

    /// Begins or lengthens the pause of an instance after a 429, for all replicas. Without a hint the pauses
    /// grow, from the shortest again if Hypersender has `answered` since the last pause. Returns the end of
    /// the pause.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn push_back(
        &self,
        instance: &Instance,
        asked: Option<Duration>,
        answered: bool,
        request: TurnRequest,
    ) -> Result<Instant, Unavailable> {
        booking::push_back(self.parts(), instance, asked, answered, request).await
    }

    /// Begins or lengthens the pause of an instance for all replicas, in the background. It is tried some
    /// times before `until`, and again when the store is back.
    pub fn share_pause(&self, instance: &Instance, until: Instant, request: TurnRequest) {
        booking::share_pause(self.parts(), instance, until, request);
    }

    /// How far ahead the turns of `instance` are booked, as far as this process knows, from replies and from
    /// what other replicas announced; or as the file said at the start.
    pub fn horizon(&self, instance: &Instance) -> Option<Horizon> {
        let parts = self.parts();
        parts.horizons.get(&parts.scopes.instance(instance))
    }

    /// Notes turns that this process took by itself: while the store is away, or with a file.
    pub fn remember(&self, instance: &Instance, horizon: Horizon) {
        booking::remember(self.parts(), instance, horizon);
    }

    /// Finishes what is still to be written, for at most a second.
    pub async fn close(&self) {
        let parts = self.parts();
        let written = async {
            if parts.guard.is_attached() {
                // A rejection that cannot be written now is lost; the other replicas find it by themselves.
                let _ = revocation::write_rejections(parts).await;
            }
            parts.finish().await;
            parts.backend.close().await;
        };
        let _ = timeout(CLOSE_TIME, written).await;
    }

    fn parts(&self) -> &Arc<Parts> {
        &self.0.parts
    }
}
