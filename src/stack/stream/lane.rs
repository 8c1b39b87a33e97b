//! [`Lanes`]: the bounds that all streams and avatars of this process share, so that they leave room to other
//! calls. [`Claims`]: the share of one stream or avatar.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    domain::{Instance, QueuePlace},
    stack::{
        claim::Claim,
        concurrency::Settings as ConcurrencySettings,
        keyed::{Idle, Keyed},
    },
};

/// The shares of all streams and avatars.
#[derive(Debug)]
pub struct Lanes {
    instances: Keyed<Instance, Lane>,
    shared: Shared,
    attempts: usize,
}

/// The permits that all instances share.
#[derive(Clone, Debug)]
struct Shared {
    wire: Arc<Semaphore>,
    flights: Arc<Semaphore>,
}

/// The share of one instance.
#[derive(Debug)]
struct Lane {
    /// The first place in the queue of the streams for spare turns. The semaphore is fair, so its waiters are
    /// the queue.
    place: Arc<Semaphore>,
    attempts: Arc<Semaphore>,
    attempts_max: usize,
}

impl Lanes {
    /// Streams and avatars get half of the `flights` of the process, half of the attempts on the wire of the
    /// process, and half of those of each instance, and never less than 1 of each (rule 41).
    pub fn new(flights: usize, concurrency: ConcurrencySettings) -> Self {
        let half = |all: usize| (all / 2).clamp(1, Semaphore::MAX_PERMITS);
        let [wire, flights] = [concurrency.attempts, flights].map(|all| Arc::new(Semaphore::new(half(all))));
        let attempts = half(concurrency.attempts_of_instance());
        Self { instances: Keyed::default(), shared: Shared { wire, flights }, attempts }
    }

    /// The claims of a new stream of `instance`. It claims nothing yet.
    pub fn claims(&self, instance: &Instance) -> Claims {
        let lane = self.lane(instance);
        let queue = lane.place.clone();
        self.claims_in(lane, queue)
    }

    /// The claims of a new avatar of `instance`. The avatars of an instance wait for spare turns in `queue`,
    /// a fair semaphore with one permit.
    pub fn claims_of_avatar(&self, instance: &Instance, queue: Arc<Semaphore>) -> Claims {
        self.claims_in(self.lane(instance), queue)
    }

    fn lane(&self, instance: &Instance) -> Arc<Lane> {
        let new = || Lane::new(self.attempts);
        // When the table is full, a stream or avatar shares its lane with no other one. All other limits
        // still hold.
        self.instances.of(instance, new).unwrap_or_else(|_| Arc::new(new()))
    }

    fn claims_in(&self, lane: Arc<Lane>, queue: Arc<Semaphore>) -> Claims {
        Claims {
            lane,
            queue,
            shared: self.shared.clone(),
            queued: Claim::None,
            place: None,
            attempt: Claim::None,
            wire: Claim::None,
            flight: Claim::None,
        }
    }
}

impl Lane {
    fn new(attempts: usize) -> Self {
        let place = Arc::new(Semaphore::new(1));
        Self { place, attempts: Arc::new(Semaphore::new(attempts)), attempts_max: attempts }
    }
}

impl Idle for Lane {
    fn is_idle(&self, _: Instant) -> bool {
        self.place.available_permits() == 1 && self.attempts.available_permits() == self.attempts_max
    }
}

/// The permits that a stream or an avatar holds or waits for. A claim keeps its place among the waiters while
/// it is not polled.
#[derive(Debug)]
pub struct Claims {
    lane: Arc<Lane>,
    queue: Arc<Semaphore>,
    shared: Shared,
    queued: Claim,
    /// The first place in the queue for spare turns, while the stream or avatar has it.
    place: Option<QueuePlace>,
    attempt: Claim,
    wire: Claim,
    flight: Claim,
}

/// The permits of a look-up in progress: an attempt of its instance, one of all instances, and a flight.
#[derive(Debug)]
pub struct Permits {
    _attempt: OwnedSemaphorePermit,
    _wire: OwnedSemaphorePermit,
    _flight: OwnedSemaphorePermit,
}

impl Claims {
    /// Claims the first place in the queue. Returns whether it is held.
    pub fn is_first(&mut self) -> bool {
        // A look-up that took its turn or needs none has left the place.
        if !self.place.as_ref().is_some_and(QueuePlace::is_held) {
            if !self.queued.is_held(&self.queue) {
                return false;
            }
            self.place = self.queued.take().map(QueuePlace::new);
        }
        true
    }

    /// Claims an attempt of the instance, an attempt on the wire and a flight, one after the other. Returns
    /// whether all are held.
    pub fn has_permits(&mut self) -> bool {
        self.attempt.is_held(&self.lane.attempts)
            && self.wire.is_held(&self.shared.wire)
            && self.flight.is_held(&self.shared.flights)
    }

    /// Gives up all three. Other instances share them, and so do the streams and the avatars of an instance,
    /// so they must not be kept during a wait for a turn.
    pub fn leave_permits(&mut self) {
        (self.attempt, self.wire, self.flight) = (Claim::None, Claim::None, Claim::None);
    }

    /// Resolves when something that is waited for is granted. It never does when nothing is waited for.
    pub async fn granted(&mut self) {
        tokio::select! {
            () = self.queued.granted() => {}
            () = self.attempt.granted() => {}
            () = self.wire.granted() => {}
            () = self.flight.granted() => {}
        }
    }

    /// The place in the queue, for a look-up that may start.
    pub fn place(&self) -> Option<QueuePlace> {
        self.place.clone()
    }

    /// The permits for the look-up that starts now. The look-up takes the place with it.
    pub fn board(&mut self) -> Option<Permits> {
        self.place = None;
        let (attempt, wire) = (self.attempt.take()?, self.wire.take()?);
        Some(Permits { _attempt: attempt, _wire: wire, _flight: self.flight.take()? })
    }

    /// Gives up every claim, except what look-ups in progress have.
    pub fn leave(&mut self) {
        self.queued = Claim::None;
        self.place = None;
        self.leave_permits();
    }
}
