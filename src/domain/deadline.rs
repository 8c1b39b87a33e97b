//! [`Deadline`]: the instant until which the work for a look-up is useful, for one caller or for all callers
//! that share it, and the purposes of those callers. [`CallEnd`]: when a caller stops waiting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::Purpose;

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
/// *now*, and its purpose is the highest of theirs. Both move as callers come and go, so read
/// [`Deadline::latest`] and [`Deadline::purpose`] again before each decision.
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
    present: Mutex<Present>,
    /// Notified when the highest purpose changes. Only the shared work listens.
    terms: Notify,
}

/// The waiters of now, counted by the end of their wait and by purpose.
#[derive(Debug, Default)]
struct Present {
    ends: BTreeMap<Instant, usize>,
    purposes: [usize; Purpose::ALL.len()],
}

impl Present {
    fn highest(&self) -> Option<Purpose> {
        Purpose::ALL.into_iter().rfind(|purpose| self.purposes[*purpose as usize] > 0)
    }
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
        let (present, terms) = (Mutex::default(), Notify::new());
        Self(Ends::WithLastWaiter(Arc::new(Waiters { limit, present, terms })))
    }

    /// Counts a caller with this purpose as waiting until `instant`, for as long as it holds the guard. The
    /// deadline of one caller ignores it.
    #[must_use]
    pub fn wait_until(&self, instant: Instant, purpose: Purpose) -> Waiting {
        if let Ends::WithLastWaiter(waiters) = &self.0 {
            let mut present = waiters.present.lock();
            let before = present.highest();
            *present.ends.entry(instant).or_default() += 1;
            present.purposes[purpose as usize] += 1;
            drop(present);
            // Nothing has been decided before the first waiter comes.
            if before.is_some_and(|before| purpose > before) {
                waiters.terms.notify_one();
            }
        }
        Waiting { deadline: self.clone(), until: instant, purpose }
    }

    /// The highest purpose of the callers that wait for shared work, as of now. `None` when no caller waits,
    /// and for the deadline of one caller.
    #[must_use]
    pub fn purpose(&self) -> Option<Purpose> {
        match &self.0 {
            Ends::At(_) => None,
            Ends::WithLastWaiter(waiters) => waiters.present.lock().highest(),
        }
    }

    /// Waits until the purpose of shared work changes, which it also does when the last waiter leaves. The
    /// change may be over already, so read the purpose again. The deadline of one caller never changes.
    pub async fn changed(&self) {
        match &self.0 {
            Ends::At(_) => std::future::pending().await,
            Ends::WithLastWaiter(waiters) => waiters.terms.notified().await,
        }
    }

    /// The deadline as of now; `None` when no caller waits.
    #[must_use]
    pub fn latest(&self) -> Option<Instant> {
        match &self.0 {
            Ends::At(instant) => Some(*instant),
            Ends::WithLastWaiter(waiters) => {
                let latest = waiters.present.lock().ends.last_key_value().map(|(at, _)| *at);
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
    purpose: Purpose,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Ends::WithLastWaiter(waiters) = &self.deadline.0 else {
            return;
        };
        let mut present = waiters.present.lock();
        let before = present.highest();
        present.purposes[self.purpose as usize] -= 1;
        if let Some(count) = present.ends.get_mut(&self.until) {
            *count -= 1;
            if *count == 0 {
                present.ends.remove(&self.until);
            }
        }
        let has_changed = present.highest() != before;
        drop(present);
        if has_changed {
            waiters.terms.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn shared_work_lasts_as_long_as_its_longest_waiter() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let shared = Deadline::shared(after(15));
        assert_eq!(shared.latest(), None);

        let short = shared.wait_until(after(1), Purpose::Caller);
        let long = shared.wait_until(after(5), Purpose::Caller);
        let same = shared.wait_until(after(5), Purpose::Caller);
        assert_eq!(shared.latest(), Some(after(5)));
        drop(long);
        assert_eq!(shared.latest(), Some(after(5)));
        drop(same);
        assert_eq!(shared.latest(), Some(after(1)));

        let endless = shared.wait_until(after(60), Purpose::Caller);
        assert_eq!(shared.latest(), Some(after(15)));
        drop((short, endless));
        assert_eq!(shared.latest(), None);
    }

    #[test]
    fn shared_work_has_the_highest_purpose_of_the_present_waiters() {
        let end = Instant::now() + Duration::from_secs(1);
        let shared = Deadline::shared(end);
        assert_eq!(shared.purpose(), None);
        let stream = shared.wait_until(end, Purpose::Stream);
        let [caller, same] = [Purpose::Caller; 2].map(|purpose| shared.wait_until(end, purpose));
        let batch = shared.wait_until(end, Purpose::Batch);
        for (leaves, highest) in [
            (caller, Some(Purpose::Caller)),
            (same, Some(Purpose::Batch)),
            (batch, Some(Purpose::Stream)),
            (stream, None),
        ] {
            drop(leaves);
            assert_eq!(shared.purpose(), highest);
        }
        let alone = Deadline::at(end);
        let _waiting = alone.wait_until(end, Purpose::Caller);
        assert_eq!(alone.purpose(), None);
    }

    #[test]
    fn shared_work_is_woken_when_its_purpose_changes() {
        let end = Instant::now() + Duration::from_secs(1);
        let shared = Deadline::shared(end);
        let has_changed = || shared.changed().now_or_never().is_some();
        let stream = shared.wait_until(end, Purpose::Stream);
        assert!(!has_changed(), "the first waiter starts the work");
        let (refresh, same) =
            (shared.wait_until(end, Purpose::Refresh), shared.wait_until(end, Purpose::Stream));
        assert!(!has_changed(), "lower and equal purposes change nothing");
        let batch = shared.wait_until(end, Purpose::Batch);
        assert!(has_changed());
        drop(batch);
        assert!(has_changed());
        drop((refresh, same));
        assert!(!has_changed(), "a stream is left");
        // A wait that is given up after the change and before it wakes passes the change on.
        let mut given_up = Box::pin(shared.changed());
        assert!(given_up.as_mut().now_or_never().is_none());
        let caller = shared.wait_until(end, Purpose::Caller);
        drop(given_up);
        assert!(has_changed());
        drop(caller);
        assert!(has_changed());
        drop(stream);
        assert!(has_changed());
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
