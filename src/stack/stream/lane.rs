//! [`Lanes`]: the bounds that all streams of this process share, so that they leave room to other calls.
//! [`Claims`]: the share of one stream.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    domain::{Instance, QueuePlace},
    stack::{
        claim::Claim,
        keyed::{Idle, Keyed},
    },
};

/// The shares of all streams.
#[derive(Debug)]
pub struct Lanes {
    instances: Keyed<Instance, Lane>,
    flights: Arc<Semaphore>,
    attempts: usize,
}

/// The share of the streams of one instance.
#[derive(Debug)]
struct Lane {
    /// The first place in the queue for spare turns. The semaphore is fair, so its waiters are the queue.
    place: Arc<Semaphore>,
    attempts: Arc<Semaphore>,
    attempts_max: usize,
}

impl Lanes {
    /// Streams get half of the `flights` of the process and half of the `attempts` of each instance, and
    /// never less than 1 (rule 41).
    pub fn new(flights: usize, attempts: usize) -> Self {
        let half = |all: usize| (all / 2).clamp(1, Semaphore::MAX_PERMITS);
        let flights = Arc::new(Semaphore::new(half(flights)));
        Self { instances: Keyed::new(), flights, attempts: half(attempts) }
    }

    /// The claims of a new stream of `instance`. It claims nothing yet.
    pub fn claims(&self, instance: &Instance) -> Claims {
        let new = || Lane::new(self.attempts);
        // When the table is full, the stream shares its lane with no other one. All other limits still hold.
        let lane = self.instances.of(instance, new).unwrap_or_else(|_| Arc::new(new()));
        Claims {
            lane,
            flights: self.flights.clone(),
            queued: Claim::None,
            place: None,
            attempt: Claim::None,
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

/// The permits that a stream holds or waits for. A claim keeps its place among the waiters while it is not
/// polled.
#[derive(Debug)]
pub struct Claims {
    lane: Arc<Lane>,
    flights: Arc<Semaphore>,
    queued: Claim,
    /// The first place in the queue for spare turns, while the stream has it.
    place: Option<QueuePlace>,
    attempt: Claim,
    flight: Claim,
}

/// The permits of a look-up in progress: an attempt of its instance, and a flight.
#[derive(Debug)]
pub struct Permits {
    _attempt: OwnedSemaphorePermit,
    _flight: OwnedSemaphorePermit,
}

impl Claims {
    /// Claims the first place in the queue and an attempt of the instance. Returns whether the stream has
    /// both.
    pub fn is_first(&mut self) -> bool {
        if self.place.is_none() {
            if !self.queued.is_held(&self.lane.place) {
                return false;
            }
            self.place = self.queued.take().map(QueuePlace::new);
        }
        self.attempt.is_held(&self.lane.attempts)
    }

    /// Claims a flight. Returns whether the stream has it.
    pub fn has_flight(&mut self) -> bool {
        self.flight.is_held(&self.flights)
    }

    /// Gives up the flight. All instances share the flights, so a stream must not keep one while it waits for
    /// its turn.
    pub fn leave_flight(&mut self) {
        self.flight = Claim::None;
    }

    /// Resolves when the stream has what it waits for. It never does when the stream waits for nothing.
    pub async fn granted(&mut self) {
        tokio::select! {
            () = self.queued.granted() => {}
            () = self.attempt.granted() => {}
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
        let (attempt, flight) = (self.attempt.take()?, self.flight.take()?);
        Some(Permits { _attempt: attempt, _flight: flight })
    }

    /// Gives up every claim, except what look-ups in progress have.
    pub fn leave(&mut self) {
        self.queued = Claim::None;
        self.place = None;
        self.attempt = Claim::None;
        self.flight = Claim::None;
    }
}
