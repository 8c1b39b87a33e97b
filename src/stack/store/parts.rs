//! [`Parts`]: the state that the operations of a store share: its engine, its clock, its tables and its work
//! in the background. The operations themselves are in `reading`, `lease`, `revocation` and `booking`.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::warn;

use super::{
    Listener,
    attachment::{Done, Guard},
    backend::Backend,
    horizons::Horizons,
    news::{ProcessId, Sealed},
    pending::Rejections,
    scopes::Scopes,
    time::{StoreClock, StoreTime},
    unshared::Unshared,
    waits::Waits,
};
use crate::telemetry::{StoreMetrics as Metrics, StoreOperation as Operation};

/// The most writes in progress in the background. A further one is not made: the answer is then not shared.
const BACKGROUND_MAX: u32 = 1024;
/// The most releases of leases in progress beside them. Further leases end by themselves.
const RELEASES_MAX: usize = 1024;
/// A difference between the clocks of the store and of this machine that is worth a warning, in seconds.
const CLOCK_OFFSET_MAX: f64 = 5.0;
/// A warning comes only if there was no such difference for this long. A difference that varies, such as that
/// of the nodes of a cluster whose clocks differ, is reported once.
const CLOCK_FINE_FOR: Duration = Duration::from_secs(60 * 60);

/// The parts of a store.
#[derive(Debug)]
pub struct Parts {
    pub backend: Backend,
    pub guard: Guard,
    pub clock: StoreClock,
    pub scopes: Scopes,
    pub horizons: Horizons,
    pub waits: Waits,
    /// The pauses that the store may not have yet.
    pub unshared: Unshared,
    /// The rejections that the store does not have yet.
    pub rejections: Rejections,
    /// Has all known rejections announced, soon.
    pub announce_again: Notify,
    pub listener: OnceLock<Arc<dyn Listener>>,
    pub metrics: Arc<Metrics>,
    pub replicas: u32,
    /// The random name of this process in the news.
    pub process: ProcessId,
    background: Arc<Semaphore>,
    releases: Arc<Semaphore>,
    differences: Differences,
}

impl Parts {
    pub fn new(
        backend: Backend,
        prefix: String,
        timeout: Duration,
        replicas: u32,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            guard: Guard::new(timeout, metrics.clone()),
            clock: StoreClock::default(),
            scopes: Scopes::new(prefix),
            horizons: Horizons::default(),
            waits: Waits::default(),
            unshared: Unshared::default(),
            rejections: Rejections::default(),
            announce_again: Notify::new(),
            listener: OnceLock::new(),
            metrics,
            replicas,
            process: rand::random(),
            background: Arc::new(Semaphore::new(BACKGROUND_MAX as usize)),
            releases: Arc::new(Semaphore::new(RELEASES_MAX)),
            differences: Differences::default(),
        })
    }

    /// Learns the clock of the store from a reply that shows `time`. Returns the moment of the reply, which
    /// lies within the operation.
    pub fn learn<T>(&self, done: &Done<T>, time: StoreTime) -> Instant {
        self.clock.learn_between(done.began, done.ended, time);
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let store = self.clock.at(Instant::now()).map_or(wall, |time| Duration::from_micros(time.micros()));
        let offset = store.as_secs_f64() - wall.as_secs_f64();
        self.metrics.clock_offset(offset);
        if offset.abs() > CLOCK_OFFSET_MAX && self.differences.note(done.ended) {
            warn!(seconds = offset.round(), "the clock of the store differs from the clock of this machine");
        }
        self.clock.instant(time).unwrap_or(done.ended).clamp(done.began, done.ended)
    }

    /// Does `work` in the background, or drops it if there is too much of it. [`Self::finish`] waits for it.
    pub fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(permit) = self.background.clone().try_acquire_owned() {
            spawn(work, permit);
        }
    }

    /// Releases a lease in the background by `work`, also while there is too much other work.
    pub fn release(&self, work: impl Future<Output = ()> + Send + 'static) {
        let permit = self.background.clone().try_acquire_owned();
        if let Ok(permit) = permit.or_else(|_| self.releases.clone().try_acquire_owned()) {
            spawn(work, permit);
        }
    }

    /// Sends `news` to the other replicas, in the background.
    pub fn announce(self: &Arc<Self>, news: Option<Sealed>) {
        let Some(Sealed(message)) = news.filter(|_| self.backend.shares_turns()) else {
            return;
        };
        let parts = self.clone();
        self.in_background(async move {
            let _ = parts.guard.run(Operation::Publish, parts.backend.publish(message)).await;
        });
    }

    /// Waits for the work in the background, and takes no more of it.
    pub async fn finish(&self) {
        // It fails when it was closed before.
        let _ = self.background.acquire_many(BACKGROUND_MAX).await;
        self.background.close();
    }
}

fn spawn(work: impl Future<Output = ()> + Send + 'static, permit: OwnedSemaphorePermit) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            work.await;
            drop(permit);
        });
    }
}

/// When the clock of the store was last found to differ too much from that of this machine.
#[derive(Debug, Default)]
struct Differences(Mutex<Option<Instant>>);

impl Differences {
    /// Notes a difference that is too large. Returns whether it is worth a warning.
    fn note(&self, now: Instant) -> bool {
        let before = self.0.lock().replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) > CLOCK_FINE_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_comes_and_goes_is_reported_once() {
        let (differences, start) = (Differences::default(), Instant::now());
        let warnings =
            (0..10_000).filter(|second| differences.note(start + Duration::from_secs(2 * second))).count();
        assert_eq!(warnings, 1);
        let later = start + Duration::from_secs(20_000) + 2 * CLOCK_FINE_FOR;
        assert!(differences.note(later), "it was fine for an hour");
    }
}
