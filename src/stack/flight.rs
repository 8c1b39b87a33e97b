//! [`Flight`]: concurrent look-ups of one key share one fetch.
//!
//! The fetch belongs to no caller. It runs in a task of its own, so a caller that cancels does not disturb
//! the others. The answer is stored inside the fetch, and so before the flight is removed.
//!
//! tower-resilience's coalescing is not used: there, all waiters fail when the first caller cancels.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tower::ServiceExt;
use tracing::error;

use super::ask::{Ask, LookupService};
use crate::{
    domain::{Answer, Deadline, Key, Lookup, LookupError, Purpose, Waiting},
    telemetry::{CallLink, KeyName, LookupMetrics as Metrics, in_this_call},
};

/// No flight lasts longer, however long its callers would wait. Two attempts of 6 s and a wait for a turn fit
/// into it; three attempts do not.
pub const LIFE_MAX: Duration = Duration::from_secs(15);

type Outcome = Result<Answer, LookupError>;

/// The layer that makes one fetch at a time for each key.
#[derive(Clone, Debug)]
pub struct Flight<S> {
    flights: Arc<Flights>,
    fetch: S,
}

/// The fetches that are in progress.
#[derive(Debug)]
struct Flights {
    by_key: DashMap<Key, Joined>,
    count: AtomicUsize,
    max: usize,
    metrics: Arc<Metrics>,
}

/// A caller's seat in a flight: the channel of the outcome, the guard that counts it as waiting, and whether
/// another caller had started the flight.
type Seat = (watch::Receiver<Option<Outcome>>, Waiting, bool);

/// The parts of a flight that a caller needs to wait for it.
#[derive(Clone, Debug)]
struct Joined {
    outcome: watch::Receiver<Option<Outcome>>,
    deadline: Deadline,
    /// The call whose trace shows the fetch.
    starter: CallLink,
}

impl<S: LookupService> Flight<S> {
    /// Makes at most `max` fetches at a time through `fetch`. Further ones fail with
    /// [`LookupError::Overloaded`].
    pub fn new(max: usize, metrics: Arc<Metrics>, fetch: S) -> Self {
        let flights = Flights { by_key: DashMap::new(), count: AtomicUsize::new(0), max, metrics };
        Self { flights: Arc::new(flights), fetch }
    }

    /// Waits for the outcome. Returns it, and whether another caller had started the flight.
    async fn join(self, lookup: Lookup) -> (Outcome, bool) {
        let until = lookup.deadline.latest().unwrap_or_else(Instant::now);
        let (mut outcome, _waiting, collapsed) = match self.board(lookup, until) {
            Ok(seat) => seat,
            Err(error) => return (Err(error), false),
        };
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(LookupError::Internal)),
            // The task was ended from outside before it had an outcome.
            Err(_) => Err(LookupError::Internal),
        };
        (mark(outcome, collapsed), collapsed)
    }

    /// Takes a seat in the flight of the key, and starts the flight if there is none.
    fn board(&self, lookup: Lookup, until: Instant) -> Result<Seat, LookupError> {
        let entry = match self.flights.by_key.entry(lookup.key.clone()) {
            // The flight in progress renews the entry as well. A refresh that joined would keep it going
            // after all callers had left.
            Entry::Occupied(_) if lookup.own_purpose.is_refresh() => return Err(LookupError::Overloaded),
            Entry::Occupied(entry) => {
                // It needs no turn of its own.
                if let Some(place) = &lookup.place {
                    place.leave();
                }
                let Joined { outcome, deadline, starter } = entry.get().clone();
                self.flights.metrics.collapsed();
                starter.follow();
                return Ok((outcome, deadline.wait_until(until, lookup.own_purpose), true));
            }
            // Its turn is still to come.
            Entry::Vacant(_) if lookup.joins_only => {
                return Err(LookupError::NoTurnYet { wait: Duration::ZERO });
            }
            Entry::Vacant(entry) => entry,
        };
        if self.flights.count.fetch_add(1, Relaxed) >= self.flights.max {
            self.flights.count.fetch_sub(1, Relaxed);
            return Err(LookupError::Overloaded);
        }
        self.flights.metrics.took_off();
        let (sender, outcome) = watch::channel(None);
        let limit = Instant::now() + LIFE_MAX;
        let deadline = Deadline::shared(limit);
        let landing = Landing { flights: self.flights.clone(), key: lookup.key.clone(), sender };
        let starter = CallLink::here();
        entry.insert(Joined { outcome: outcome.clone(), deadline: deadline.clone(), starter });
        let waiting = deadline.wait_until(until, lookup.own_purpose);
        tokio::spawn(in_this_call(run(self.fetch.clone(), lookup, deadline, limit, landing)));
        Ok((outcome, waiting, false))
    }
}

/// Runs the fetch until the limit at the latest. A panic in it becomes an outcome.
async fn run(
    fetch: impl LookupService,
    lookup: Lookup,
    deadline: Deadline,
    limit: Instant,
    landing: Landing,
) {
    // A refresh has no caller that would keep its flight going, so it registers itself as a waiter.
    let own_purpose = lookup.own_purpose;
    let _refresh = own_purpose.is_refresh().then(|| deadline.wait_until(limit, own_purpose));
    let name = KeyName::from(&lookup.key);
    let work = fetch.oneshot(Lookup { deadline, ..lookup });
    let outcome = match timeout_at(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            error!(key = %name, "a fetch panicked");
            Err(LookupError::Internal)
        }
        Err(_) => Err(LookupError::TimedOut { retry_after: None }),
    };
    landing.land(outcome);
}

fn mark(outcome: Outcome, collapsed: bool) -> Outcome {
    outcome.map(|mut answer| {
        answer.cache.collapsed = collapsed;
        answer
    })
}

/// Whether a flight of other callers ended because it had no time, no turn or no permit, and this caller has
/// the time to wait for them.
fn gave_up_too_early(error: &LookupError, lookup: &Lookup) -> bool {
    let restart = error.restart_after().map(|wait| Instant::now() + wait);
    restart.is_some_and(|restart| lookup.deadline.leaves_time_at(restart))
}

/// Ends a flight: removes it, then sends the outcome to its waiters. If it is dropped without an outcome, it
/// only removes the flight.
struct Landing {
    flights: Arc<Flights>,
    key: Key,
    sender: watch::Sender<Option<Outcome>>,
}

impl Landing {
    fn land(self, outcome: Outcome) {
        self.remove();
        self.sender.send_replace(Some(outcome));
    }

    fn remove(&self) {
        let receiver = self.sender.subscribe();
        let own = |_: &Key, joined: &Joined| joined.outcome.same_channel(&receiver);
        if self.flights.by_key.remove_if(&self.key, own).is_some() {
            self.flights.count.fetch_sub(1, Relaxed);
            self.flights.metrics.landed();
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.remove();
    }
}

impl<S: LookupService> Ask for Flight<S> {
    async fn ask(self, lookup: Lookup) -> Outcome {
        let mut restarted = false;
        loop {
            let (outcome, collapsed) = self.clone().join(lookup.clone()).await;
            let Err(error) = &outcome else {
                return outcome;
            };
            let no_turn_yet = matches!(error, LookupError::NoTurnYet { .. });
            let waits_outside = match lookup.own_purpose {
                Purpose::Batch | Purpose::Avatar | Purpose::Stream => no_turn_yet,
                Purpose::Caller | Purpose::Refresh | Purpose::SpareRefresh => false,
            };
            if !collapsed || waits_outside {
                return outcome;
            }
            if !gave_up_too_early(error, &lookup) {
                return if no_turn_yet { Err(LookupError::DeadlineExceeded) } else { outcome };
            }
            // The flight of a batch or a stream that had decided before this caller joined does not count as
            // the restart.
            if !no_turn_yet && std::mem::replace(&mut restarted, true) {
                return outcome;
            }
        }
    }
}
