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
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment that is this many milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
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
pub struct StoreClock(Mutex<Option<Reading>>);

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Reading {
    instant: Instant,
    time: StoreTime,
    /// How far `time` may be off.
    error: Duration,
}

/// How much further a reading may be off after each second: clocks of machines drift apart.
const DRIFT: f64 = 100e-6;

impl StoreClock {
    /// Notes a reply that the store gave at `time` by its clock and at `instant` by ours.
    pub fn learn(&self, instant: Instant, time: StoreTime) {
        self.note(Reading { instant, time, error: Duration::ZERO });
    }

    /// Notes a reply that the store gave at `time` by its clock, at some moment between `began` and `ended`
    /// by ours. The reply is taken for that of the midpoint, unless an earlier one was more exact and both
    /// agree.
    pub fn learn_between(&self, began: Instant, ended: Instant, time: StoreTime) {
        let error = ended.duration_since(began) / 2;
        self.note(Reading { instant: began + error, time, error });
    }

    fn note(&self, new: Reading) {
        let mut known = self.0.lock();
        let is_better = known.is_none_or(|known| {
            let age = new.instant.saturating_duration_since(known.instant);
            let error = known.error + age.mul_f64(DRIFT);
            let expected = known.at(new.instant);
            let apart = new.time.since(expected).max(expected.since(new.time));
            // When they do not agree, the clock of the store was set.
            new.error <= error || apart > error + new.error
        });
        if is_better {
            *known = Some(new);
        }
    }

    /// The time on the clock of the store at `instant`. `None` before the first reply.
    pub fn at(&self, instant: Instant) -> Option<StoreTime> {
        let known = (*self.0.lock())?;
        Some(known.at(instant))
    }

    /// The instant at which the clock of the store shows `time`. `None` before the first reply, or when this
    /// machine's clock cannot represent it.
    pub fn instant(&self, time: StoreTime) -> Option<Instant> {
        let known = (*self.0.lock())?;
        match time.0.checked_sub(known.time.0) {
            Some(later) => known.instant.checked_add(Duration::from_micros(later)),
            None => known.instant.checked_sub(Duration::from_micros(known.time.0 - time.0)),
        }
    }
}

impl Reading {
    fn at(&self, instant: Instant) -> StoreTime {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        match instant.checked_duration_since(self.instant) {
            Some(later) => StoreTime(self.time.0.saturating_add(micros(later))),
            None => StoreTime(self.time.0.saturating_sub(micros(self.instant - instant))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    fn at(seconds: u64) -> StoreTime {
        StoreTime::from_millis(seconds * 1000)
    }

    #[test]
    fn a_clock_without_a_reply_shows_nothing() {
        let clock = StoreClock::default();
        assert_eq!((clock.at(Instant::now()), clock.instant(at(1))), (None, None));
    }

    #[test]
    fn both_clocks_lead_to_each_other() {
        let (clock, now) = (StoreClock::default(), Instant::now() + 100 * SECOND);
        clock.learn(now, at(1000));
        for (instant, time) in [(now, at(1000)), (now + SECOND, at(1001)), (now - SECOND, at(999))] {
            assert_eq!((clock.at(instant), clock.instant(time)), (Some(time), Some(instant)));
        }
        assert!(clock.instant(StoreTime::default()).is_none_or(|instant| instant < now));
    }

    #[test]
    fn an_exact_reply_is_not_displaced_by_an_inexact_one_that_agrees() {
        let (clock, now) = (StoreClock::default(), Instant::now());
        clock.learn_between(now, now + 2 * MILLI, at(1000));
        assert_eq!(clock.at(now + MILLI), Some(at(1000)));
        let later = now + SECOND;
        clock.learn_between(later, later + 100 * MILLI, at(1001));
        assert_eq!(clock.at(now + MILLI), Some(at(1000)), "the reply came early in these 100 ms");
        let later = now + 2 * SECOND;
        clock.learn_between(later, later + MILLI, at(1003));
        assert_eq!(clock.at(later + MILLI / 2), Some(at(1003)), "the clock was set");
        let later = now + 3600 * SECOND;
        clock.learn_between(later, later + 2 * MILLI, at(1003 + 3598));
        assert_eq!(clock.at(later + MILLI), Some(at(1003 + 3598)), "the last exact reply is an hour old");
    }
}
