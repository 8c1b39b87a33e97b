//! [`Trips`]: how long the way to the store and back takes at most, judged by the last ones.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The longest of the last trips, in microseconds. It falls by an eighth with each shorter one.
#[derive(Debug, Default)]
pub struct Trips(AtomicU64);

impl Trips {
    /// The longest of the last trips; zero before the first.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }

    /// Notes a trip that took this long.
    pub fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Trips that end together may overwrite each other. Any of them will do.
        let longest = self.0.load(Relaxed);
        self.0.store(time.max(longest - longest / 8), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trip_counts_at_once_and_is_forgotten_in_time() {
        let trips = Trips::default();
        assert_eq!(trips.longest(), Duration::ZERO);
        trips.took(Duration::from_millis(80));
        assert_eq!(trips.longest(), Duration::from_millis(80));
        trips.took(Duration::from_millis(1));
        assert_eq!(trips.longest(), Duration::from_millis(70));
        for _ in 0..50 {
            trips.took(Duration::from_millis(1));
        }
        assert_eq!(trips.longest(), Duration::from_millis(1));
    }
}
