//! [`BatchTurns`] and [`QueuePlace`]: how the look-ups of one batch, and the streams of one instance, share
//! the turns of the rate limit.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of turns that a batch has booked and not yet begun. Turns that are free at once, such as
/// those of the burst, are not booked. Callers behind the batch wait for at most this many of its turns, and
/// not for the whole batch.
const BOOKED_MAX: usize = 5;

/// The turns of one batch. The look-ups of the batch share it.
#[derive(Clone, Debug)]
pub struct BatchTurns(Arc<Turns>);

#[derive(Debug)]
struct Turns {
    booked: Arc<Semaphore>,
    refused: AtomicU32,
}

impl BatchTurns {
    /// The turns of a batch that has not booked any.
    #[must_use]
    pub fn new() -> Self {
        let booked = Arc::new(Semaphore::new(BOOKED_MAX));
        Self(Arc::new(Turns { booked, refused: AtomicU32::new(0) }))
    }

    /// Waits until the batch may book one more turn. The turn counts as booked until the permit is dropped.
    ///
    /// # Panics
    ///
    /// Never: the semaphore is not closed.
    pub async fn book(&self) -> OwnedSemaphorePermit {
        self.0.booked.clone().acquire_owned().await.expect("this semaphore is never closed")
    }

    /// Counts a look-up that got no turn in time. Returns how many there were before it, so that the refused
    /// look-ups of a batch do not all come back at the same moment.
    #[must_use]
    pub fn refuse(&self) -> u32 {
        self.0.refused.fetch_add(1, Relaxed)
    }
}

impl Default for BatchTurns {
    fn default() -> Self {
        Self::new()
    }
}

/// The first place in the queue for the spare turns of an instance. The stream behind it moves up once the
/// place is left, at the latest when every clone of it is dropped. Refreshes for batches and streams have a
/// place of their own, without a queue: a refresh that finds it taken does not start.
#[derive(Clone, Debug)]
pub struct QueuePlace(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl QueuePlace {
    /// The place that `permit` stands for.
    #[must_use]
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Leaves the place: the turn is taken, or not needed.
    pub fn leave(&self) {
        drop(self.0.lock().take());
    }
}
