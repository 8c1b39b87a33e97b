//! [`Limit`]: the distance of the turns of an instance, and how many of them may be taken at once.

use std::time::Duration;

use super::Settings;

/// The slowest rate is one turn a day, so that every instant stays in the range of the clock.
pub const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How the turns of an instance are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The distance of two turns, once the burst is used up, in whole microseconds; zero when there is no
    /// limit.
    pub interval: Duration,
    /// How far ahead of an even spacing turns may be taken. It is the time of the burst minus one turn.
    pub slack: Duration,
}

impl Limit {
    /// The limit as it is set.
    pub fn of(settings: Settings) -> Self {
        let off = settings.per_second <= 0.0 || settings.burst == 0;
        let interval = if off {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(1.0 / settings.per_second).unwrap_or(INTERVAL_MAX).min(INTERVAL_MAX)
        };
        // A store counts whole microseconds. Rounded down, the turns would come faster than they may.
        let micros = interval.as_nanos().div_ceil(1_000);
        let interval = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        Self { interval, slack: interval.saturating_mul(settings.burst.saturating_sub(1)) }
    }

    /// The even share of one of so many replicas, without a burst.
    pub fn share_of(self, replicas: u32) -> Self {
        Self { interval: self.interval.saturating_mul(replicas), slack: Duration::ZERO }
    }

    /// How long the last turn that is booked comes before the instant after all turns. The burst is
    /// between them.
    pub fn span(self) -> Duration {
        self.slack + self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_whole_microseconds_and_never_shorter_than_the_rate_allows() {
        for (per_second, burst, interval, slack) in [
            (5.0, 20, 200_000, 3_800_000),
            (7.0, 1, 142_858, 0),
            (3e6, 1, 1, 0),
            (0.0, 20, 0, 0),
            (5.0, 0, 0, 0),
            (f64::MIN_POSITIVE, 2, 86_400_000_000, 86_400_000_000),
        ] {
            let [interval, slack] = [interval, slack].map(Duration::from_micros);
            assert_eq!(Limit::of(Settings { per_second, burst }), Limit { interval, slack }, "{per_second}");
        }
        let share = Limit::of(Settings::default()).share_of(3);
        assert_eq!(share, Limit { interval: Duration::from_millis(600), slack: Duration::ZERO });
    }
}
