//! [`Waits`]: the fetches of other replicas that this process waits for, so that the results of leases are
//! counted once for each wait and not for each poll.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::engine::Leased;
use crate::telemetry::LeaseResult;

/// A look-up that waits polls at least this often. After that the wait was given up.
const POLL_MAX: Duration = Duration::from_secs(2);
/// The most waits. It is above the number of flights of a process; when there are more, polls are counted.
const WAITS_MAX: usize = 4096;

/// The leases that were last found held, and when.
#[derive(Debug, Default)]
pub struct Waits(Mutex<HashMap<String, Instant>>);

/// What one more reply about a lease means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What is to be counted.
    pub result: Option<LeaseResult>,
    /// Whether this look-up found the lease held just before and finds it so again.
    pub is_poll: bool,
}

impl Waits {
    /// Notes what came of a wish for `lease`.
    pub fn note(&self, lease: &str, leased: Leased, now: Instant) -> Noted {
        let is_recent = |noted: &Instant| now.saturating_duration_since(*noted) < POLL_MAX;
        let mut all = self.0.lock();
        let waited = all.remove(lease).is_some_and(|noted| is_recent(&noted));
        let result = match leased {
            Leased::No => None,
            Leased::Taken if waited => Some(LeaseResult::TakenOver),
            Leased::Taken => Some(LeaseResult::Taken),
            Leased::Held => {
                if all.len() >= WAITS_MAX {
                    all.retain(|_, noted| is_recent(noted));
                }
                if all.len() < WAITS_MAX {
                    all.insert(lease.to_owned(), now);
                }
                (!waited).then_some(LeaseResult::Waited)
            }
        };
        Noted { result, is_poll: waited && leased == Leased::Held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_once_and_ends_with_an_answer_or_a_take_over() {
        let (waits, start) = (Waits::default(), Instant::now());
        let note = |leased, seconds| {
            let Noted { result, is_poll } = waits.note("l", leased, start + Duration::from_secs(seconds));
            (result, is_poll)
        };
        assert_eq!(note(Leased::Taken, 0), (Some(LeaseResult::Taken), false));
        assert_eq!(note(Leased::Held, 0), (Some(LeaseResult::Waited), false));
        assert_eq!(note(Leased::Held, 1), (None, true));
        assert_eq!(note(Leased::Taken, 2), (Some(LeaseResult::TakenOver), false));
        assert_eq!(note(Leased::Held, 3), (Some(LeaseResult::Waited), false));
        assert_eq!(note(Leased::No, 4), (None, false));
        assert_eq!(note(Leased::Taken, 4), (Some(LeaseResult::Taken), false));
        assert_eq!(note(Leased::Held, 5), (Some(LeaseResult::Waited), false));
        assert_eq!(note(Leased::Taken, 60), (Some(LeaseResult::Taken), false), "that wait was given up");
    }

    #[test]
    fn waits_are_bounded() {
        let (waits, start) = (Waits::default(), Instant::now());
        for number in 0..2 * WAITS_MAX {
            waits.note(&number.to_string(), Leased::Held, start);
        }
        assert_eq!(waits.0.lock().len(), WAITS_MAX);
        waits.note("later", Leased::Held, start + POLL_MAX);
        assert_eq!(waits.0.lock().len(), 1);
    }
}
