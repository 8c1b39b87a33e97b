//! [`BatchTurns`] and [`QueuePlace`]: how the look-ups of one batch, and the streams and avatars of one
//! instance, share the turns of the rate limit.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// The terms of one batch. The look-ups of the batch share it.
#[derive(Clone, Debug)]
pub struct BatchTurns(Arc<Turns>);

#[derive(Debug)]
struct Turns {
    latest_start: Option<Instant>,
    refused: AtomicU32,
}

impl BatchTurns {
    /// The terms of a batch that may start attempts until `latest_start`; `None` when it has no time at all.
    #[must_use]
    pub fn new(latest_start: Option<Instant>) -> Self {
        Self(Arc::new(Turns { latest_start, refused: AtomicU32::new(0) }))
    }

    /// The latest instant at which an attempt for the batch may start. A flight of the batch may end before.
    #[must_use]
    pub fn latest_start(&self) -> Option<Instant> {
        self.0.latest_start
    }

    /// Counts a look-up that got no turn in time. Returns how many there were before it, so that the refused
    /// look-ups of a batch do not all come back at the same moment.
    #[must_use]
    pub fn refuse(&self) -> u32 {
        self.0.refused.fetch_add(1, Relaxed)
    }
}

/// A look-up's right to a turn, which it has before it starts. For a stream it is the first place in the
/// queue of the streams for the spare turns of an instance; avatars have a queue of their own. For a batch
/// it is one of the few turns that may be booked ahead. The next one behind it moves up once the place is
/// left, at the latest when every clone of it is dropped. Refreshes for batches, avatars and streams have a
/// place of their own, without a queue: a refresh that finds it taken does not start.
#[derive(Clone, Debug)]
pub struct QueuePlace(Arc<Mutex<Vec<OwnedSemaphorePermit>>>);

impl QueuePlace {
    /// The place that `permit` stands for.
    #[must_use]
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self::of(vec![permit])
    }

    /// The place that all `permits` together stand for.
    #[must_use]
    pub fn of(permits: Vec<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Mutex::new(permits)))
    }

    /// Whether it was not left yet.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// Leaves the place: the turn has come, or is not needed.
    pub fn leave(&self) {
        self.0.lock().clear();
    }
}
