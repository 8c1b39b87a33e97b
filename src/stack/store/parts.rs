//! [`Parts`]: the state that the operations of a store share: its engine, its clock, its tables and its work
//! in the background. The operations themselves are in `reading`, `lease`, `revocation` and `booking`.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::Semaphore, time::Instant};
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
    waits::Waits,
};
use crate::telemetry::{StoreMetrics as Metrics, StoreOperation as Operation};

/// The most writes in progress in the background. A further one is not made: the answer is then not shared.
const BACKGROUND_MAX: u32 = 1024;
/// A difference between the clocks of the store and of this machine that is worth a warning, in seconds ...
const CLOCK_OFFSET_MAX: f64 = 5.0;
/// ... and one that ends it, so that a difference that varies a little is not reported again and again.
const CLOCK_OFFSET_FINE: f64 = 4.0;

/// The parts of a store.
#[derive(Debug)]
pub struct Parts {
    pub backend: Backend,
    pub guard: Guard,
    pub clock: StoreClock,
    pub scopes: Scopes,
    pub horizons: Horizons,
    pub waits: Waits,
    /// The rejections that the store does not have yet.
    pub rejections: Rejections,
    pub listener: OnceLock<Arc<dyn Listener>>,
    pub metrics: Arc<Metrics>,
    pub replicas: u32,
    /// The random name of this process in the news.
    pub process: ProcessId,
    background: Arc<Semaphore>,
    is_clock_off: AtomicBool,
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
            rejections: Rejections::default(),
            listener: OnceLock::new(),
            metrics,
            replicas,
            process: rand::random(),
            background: Arc::new(Semaphore::new(BACKGROUND_MAX as usize)),
            is_clock_off: AtomicBool::new(false),
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
        let was_off = self.is_clock_off.load(Relaxed);
        let is_off = offset.abs() > if was_off { CLOCK_OFFSET_FINE } else { CLOCK_OFFSET_MAX };
        if is_off != was_off && self.is_clock_off.swap(is_off, Relaxed) == was_off && is_off {
            warn!(seconds = offset.round(), "the clock of the store differs from the clock of this machine");
        }
        self.clock.instant(time).unwrap_or(done.ended).clamp(done.began, done.ended)
    }

    /// Does `work` in the background. [`Self::finish`] waits for it.
    pub fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (Ok(permit), Ok(runtime)) =
            (self.background.clone().try_acquire_owned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            work.await;
            drop(permit);
        });
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
