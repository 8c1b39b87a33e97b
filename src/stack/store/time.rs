//! [`StoreTime`]: a moment on the clock of the store. [`StoreClock`]: the offset of that clock.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A moment on the clock of the store, in microseconds since the Unix epoch. All replicas of a store share
/// this clock; for a file it is the wall clock of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreTime(u64);

impl StoreTime {
    /// The moment that is this many microseconds after the Unix epoch.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment that is this many milliseconds after the Unix epoch.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub fn millis(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The clock of the store, as the replies of the store show it. Until the first reply there is none.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<Option<(Instant, StoreTime)>>);

impl StoreClock {
    /// Notes a reply that the store gave at `time` by its clock and at `instant` by ours.
    pub fn learn(&self, instant: Instant, time: StoreTime) {
        *self.0.lock() = Some((instant, time));
    }

    /// The time on the clock of the store at `instant`. `None` before the first reply.
    pub fn at(&self, instant: Instant) -> Option<StoreTime> {
        let (known, time) = (*self.0.lock())?;
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Some(match instant.checked_duration_since(known) {
            Some(later) => StoreTime(time.0.saturating_add(micros(later))),
            None => StoreTime(time.0.saturating_sub(micros(known - instant))),
        })
    }

    /// The instant at which the clock of the store shows `time`. `None` before the first reply, or when this
    /// machine's clock cannot represent it.
    pub fn instant(&self, time: StoreTime) -> Option<Instant> {
        let (known, shown) = (*self.0.lock())?;
        match time.0.checked_sub(shown.0) {
            Some(later) => known.checked_add(Duration::from_micros(later)),
            None => known.checked_sub(Duration::from_micros(shown.0 - time.0)),
        }
    }
}
