//! [`Deadline`]: the instant until which the work for a look-up is useful, for one caller or for all callers
//! that share it. [`CallEnd`]: when a caller stops waiting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The two ends of one call. It is an extension of the call's request.
#[derive(Clone, Debug)]
pub struct CallTime {
    /// When this server ends the call, if it has not ended before.
    pub deadline: Deadline,
    /// When the caller stops waiting.
    pub end: CallEnd,
}

/// When a caller stops waiting, as its call states it in `grpc-timeout`. It does not include any limit of
/// this server. A caller that states no end may wait for ever, and a caller that states a late one may wait
/// longer than this server works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEnd(Option<Instant>);

impl CallEnd {
    /// The call states no end.
    pub const UNSTATED: Self = Self(None);

    /// The end of a call that came in at `start` and states how long it may take, or states nothing.
    #[must_use]
    pub fn of(start: Instant, stated: Option<Duration>) -> Self {
        // An end so late that the clock cannot represent it counts as none.
        Self(stated.and_then(|time| start.checked_add(time)))
    }

    /// Whether the caller still waits when `time` has passed after `now`.
    #[must_use]
    pub fn allows(self, time: Duration, now: Instant) -> bool {
        self.0.is_none_or(|end| time <= end.saturating_duration_since(now))
    }
}

/// No attempt starts with less time left than this. It could not end in time, and WhatsApp would still count
/// it against the number.
const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(50);

/// The instant after which a result is useless.
///
/// The deadline of one caller is fixed. The deadline of shared work is the latest of the callers that wait
/// *now*. It moves as callers come and go, so read [`Deadline::latest`] again before each decision.
#[derive(Clone, Debug)]
pub struct Deadline(Ends);

#[derive(Clone, Debug)]
enum Ends {
    At(Instant),
    WithLastWaiter(Arc<Waiters>),
}

#[derive(Debug)]
struct Waiters {
    /// Shared work ends at this instant at the latest, even if a caller would wait longer.
    limit: Instant,
    waiting: Mutex<BTreeMap<Instant, usize>>,
}

impl Deadline {
    /// The deadline of one caller.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(Ends::At(instant))
    }

    /// The deadline of work that several callers share. It has no waiter at first, and it is `limit` at the
    /// latest.
    #[must_use]
    pub fn shared(limit: Instant) -> Self {
        Self(Ends::WithLastWaiter(Arc::new(Waiters { limit, waiting: Mutex::default() })))
    }

    /// Counts a caller as waiting until `instant`, for as long as it holds the guard. The deadline of one
    /// caller ignores it.
    #[must_use]
    pub fn wait_until(&self, instant: Instant) -> Waiting {
        if let Ends::WithLastWaiter(waiters) = &self.0 {
            *waiters.waiting.lock().entry(instant).or_default() += 1;
        }
        Waiting { deadline: self.clone(), until: instant }
    }

    /// The deadline as of now; `None` when no caller waits.
    #[must_use]
    pub fn latest(&self) -> Option<Instant> {
        match &self.0 {
            Ends::At(instant) => Some(*instant),
            Ends::WithLastWaiter(waiters) => {
                let latest = waiters.waiting.lock().last_key_value().map(|(at, _)| *at);
                latest.map(|at| at.min(waiters.limit))
            }
        }
    }

    /// The latest instant at which an attempt may start, as of now; `None` when no caller waits.
    #[must_use]
    pub fn latest_start(&self) -> Option<Instant> {
        self.latest()?.checked_sub(ATTEMPT_TIME_MIN)
    }

    /// Whether an attempt that starts at `start` has time to end, as of now.
    #[must_use]
    pub fn leaves_time_at(&self, start: Instant) -> bool {
        self.latest_start().is_some_and(|latest| start <= latest)
    }
}

/// A caller that waits for shared work. It is dropped when the caller stops waiting, also when the caller
/// cancels.
#[derive(Debug)]
pub struct Waiting {
    deadline: Deadline,
    until: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Ends::WithLastWaiter(waiters) = &self.deadline.0 else {
            return;
        };
        let mut waiting = waiters.waiting.lock();
        if let Some(count) = waiting.get_mut(&self.until) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_work_lasts_as_long_as_its_longest_waiter() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let shared = Deadline::shared(after(15));
        assert_eq!(shared.latest(), None);

        let short = shared.wait_until(after(1));
        let long = shared.wait_until(after(5));
        let same = shared.wait_until(after(5));
        assert_eq!(shared.latest(), Some(after(5)));
        drop(long);
        assert_eq!(shared.latest(), Some(after(5)));
        drop(same);
        assert_eq!(shared.latest(), Some(after(1)));

        let endless = shared.wait_until(after(60));
        assert_eq!(shared.latest(), Some(after(15)));
        drop((short, endless));
        assert_eq!(shared.latest(), None);
    }

    #[test]
    fn an_attempt_may_start_while_it_has_time_to_end() {
        let end = Instant::now() + Duration::from_secs(1);
        for (before_end, may_start) in [(1_000, true), (50, true), (49, false), (0, false)] {
            let start = end - Duration::from_millis(before_end);
            assert_eq!(Deadline::at(end).leaves_time_at(start), may_start, "{before_end} ms before the end");
        }
        assert!(!Deadline::shared(end).leaves_time_at(end - Duration::from_secs(1)), "nobody waits");
    }
}
