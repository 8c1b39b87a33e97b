//! [`RateLimit`]: how fast one instance may be asked, so that its WhatsApp number is not banned for bulk
//! look-ups.
//!
//! It reserves turns: a call gets a turn that comes in time and waits for it, or is refused at once with the
//! time until the next free turn. Batches, avatars and streams have terms of their own, which are in
//! [`turns`]. The limit holds for this process, or for all replicas that share a store.
//!
//! governor is not used: it reserves no turns, cannot pause an instance after a 429, and does not run on
//! tokio's clock.

mod asking;
mod booked;
mod detached;
mod gcra;
mod limit;
mod own;
mod shared;
mod source;
mod trips;
mod turns;

use std::sync::Arc;

use tokio::{sync::Semaphore, time::Instant};
use tower::ServiceExt;
use tracing::warn;

use self::{asking::Asking, limit::Limit, own::Own, shared::Shared, source::Source, turns::Turns};
use super::{
    ask::{Ask, LookupService},
    keyed::Keyed,
    store::Store,
};
use crate::{
    domain::{Answer, Instance, Lookup, LookupError, QueuePlace},
    telemetry::LookupMetrics as Metrics,
};

/// How fast an instance may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Attempts per second for each instance; 0 switches the limit off.
    pub per_second: f64,
    /// Attempts at once after a quiet time; 0 switches the limit off.
    pub burst: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { per_second: 5.0, burst: 20 }
    }
}

/// The turns of every instance. Clones share them.
#[derive(Clone, Debug)]
pub struct Rates {
    instances: Arc<Keyed<Instance, Turns>>,
    limit: Limit,
    store: Option<Store>,
    /// When this process began.
    started: Instant,
}

/// When a stream or an avatar may ask an instance, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// The next spare turn, if no other call takes a turn before. The retries that wait for a spare turn get
    /// theirs before this one.
    pub at: Instant,
    /// The end of the pause after a 429. It is in the past when there is none.
    pub paused_until: Instant,
}

impl Rates {
    /// Turns as `settings` allow. They are those of all replicas that share `store`, or this process goes on
    /// where it stopped. Without a store no instance has used any.
    pub fn new(settings: Settings, store: Option<Store>) -> Self {
        let (instances, started) = (Arc::new(Keyed::default()), Instant::now());
        Self { instances, limit: Limit::of(settings), store, started }
    }

    /// The next spare turn of a stream of `instance`, after those of the avatars. Nothing is reserved.
    pub fn spare(&self, instance: &Instance, now: Instant) -> Spare {
        self.known(instance).map_or(Spare { at: now, paused_until: now }, |turns| turns.spare(now))
    }

    /// The next spare turn of the first avatar of `instance` that waits for one. Nothing is reserved.
    pub fn spare_of_avatar(&self, instance: &Instance, now: Instant) -> Spare {
        self.known(instance).map_or(Spare { at: now, paused_until: now }, |turns| turns.spare_of_avatar(now))
    }

    /// The first place in the queue of the avatars of `instance` for spare turns: a fair semaphore with one
    /// permit. While it is taken, streams and refreshes take no spare turn.
    ///
    /// # Errors
    ///
    /// [`LookupError::Overloaded`] when there are too many instances.
    pub fn avatars(&self, instance: &Instance) -> Result<Arc<Semaphore>, LookupError> {
        self.of(instance).map(|turns| turns.avatars())
    }

    /// The place of a refresh that would take a spare turn of `instance` now. `None` when there is no such
    /// turn, or when another refresh is about to take it. However many stored answers a batch or a stream
    /// finds stale, no more refreshes start than there are spare turns.
    pub fn place_of_refresh(&self, instance: &Instance, now: Instant) -> Option<QueuePlace> {
        self.of(instance).ok()?.place_of_refresh(now)
    }

    /// The places of the look-ups of batches that may book a turn of `instance` ahead.
    pub fn bookings(&self, instance: &Instance) -> Arc<Semaphore> {
        // When the table is full, each look-up of the batch is refused.
        self.of(instance).map_or_else(|_| turns::bookings(), |turns| turns.bookings())
    }

    /// The turns of `instance`; `None` when none of them was ever taken.
    fn known(&self, instance: &Instance) -> Option<Arc<Turns>> {
        match (self.instances.get(instance), &self.store) {
            (None, Some(_)) => self.of(instance).ok(),
            (turns, _) => turns,
        }
    }

    fn of(&self, instance: &Instance) -> Result<Arc<Turns>, LookupError> {
        self.instances.of(instance, || Turns::new(self.source(instance)))
    }

    fn source(&self, instance: &Instance) -> Source {
        let Self { limit, started, .. } = *self;
        match self.store.clone() {
            None => Source::Own(Own::new(limit, Instant::now())),
            Some(store) if store.shares_turns() => {
                Source::Shared(Shared::new(limit, store, instance.clone(), started))
            }
            Some(store) => Source::Own(Own::kept(limit, store, instance.clone(), started, Instant::now())),
        }
    }
}

/// The layer with a rate limit for each instance. Hits and callers that join a flight do not reach it.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    rates: Rates,
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S> RateLimit<S> {
    /// Asks through `inner` no faster than `rates` allow.
    pub fn new(rates: Rates, metrics: Arc<Metrics>, inner: S) -> Self {
        Self { rates, metrics, inner }
    }
}

impl<S: LookupService> Ask for RateLimit<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let turns = self.rates.of(&lookup.key.scope.instance)?;
        let mut asking = Asking::of(&lookup);
        loop {
            turns.wait(&lookup, &mut asking).await.inspect_err(|error| {
                if matches!(error, LookupError::RateLimited { .. }) {
                    self.metrics.refused(lookup.purpose());
                }
            })?;
            if let Some(place) = &lookup.place {
                place.leave();
            }
            match self.inner.clone().oneshot(lookup.clone()).await {
                // A pause has begun since the turn came. The turn is lost, and the look-up needs another one.
                Err(LookupError::NoTurnYet { .. }) => {}
                Err(LookupError::UpstreamRateLimited { retry_after }) => {
                    let wait = turns.pushed_back(&mut asking, retry_after).await;
                    warn!(
                        instance = lookup.key.scope.instance.as_str(),
                        ?wait,
                        "upstream limits the rate of an instance, which pauses"
                    );
                    return Err(LookupError::UpstreamRateLimited { retry_after: Some(wait) });
                }
                // A refusal by this server says nothing about the rate limit of Hypersender.
                answered => {
                    if !answered.as_ref().is_err_and(|error| error.handling().is_own_refusal) {
                        turns.answered();
                    }
                    return answered;
                }
            }
        }
    }
}
