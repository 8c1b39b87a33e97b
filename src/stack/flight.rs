//! [`Flight`]: concurrent look-ups of one key share one fetch.
//!
//! The work belongs to no caller: it runs in a task of its own, and whoever cancels leaves the others as they were. What
//! the fetch does with its answer (store it) is done inside it, so that it is done when the flight is removed.

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

/// No flight lasts longer, whoever waits: three attempts of 6 s do not fit, but two and a turn of the limits do.
pub const LIFE_MAX: Duration = Duration::from_secs(15);

type Outcome = Result<Answer, LookupError>;

/// One fetch at a time for each key, around a service that fetches.
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

/// A caller's place in a flight: where the outcome will be, that it is waited for, and whether another started it.
type Seat = (watch::Receiver<Option<Outcome>>, Waiting, bool);

/// What a caller needs to wait for a flight.
#[derive(Clone, Debug)]
struct Joined {
    outcome: watch::Receiver<Option<Outcome>>,
    deadline: Deadline,
    /// The call whose trace shows the fetch.
    starter: CallLink,
}

impl<S: LookupService> Flight<S> {
    /// At most `max` fetches at a time through `fetch`; further ones are refused with [`LookupError::Overloaded`].
    pub fn new(max: usize, metrics: Arc<Metrics>, fetch: S) -> Self {
        let flights = Flights { by_key: DashMap::new(), count: AtomicUsize::new(0), max, metrics };
        Self { flights: Arc::new(flights), fetch }
    }

    /// The outcome, and whether the flight was another's.
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

    /// Joins the flight that is in progress, or starts one.
    fn board(&self, lookup: Lookup, until: Instant) -> Result<Seat, LookupError> {
        let place = match self.flights.by_key.entry(lookup.key.clone()) {
            // The flight renews the entry as well, and a refresh must not keep it going when all others have left.
            Entry::Occupied(_) if lookup.purpose == Purpose::Refresh => return Err(LookupError::Overloaded),
            Entry::Occupied(place) => {
                let Joined { outcome, deadline, starter } = place.get().clone();
                self.flights.metrics.collapsed();
                starter.follow();
                return Ok((outcome, deadline.wait_until(until), true));
            }
            Entry::Vacant(place) => place,
        };
        if self.flights.count.fetch_add(1, Relaxed) >= self.flights.max {
            self.flights.count.fetch_sub(1, Relaxed);
            return Err(LookupError::Overloaded);
        }
        self.flights.metrics.took_off();
        let (sender, outcome) = watch::channel(None);
        let deadline = Deadline::shared(Instant::now() + LIFE_MAX);
        let landing = Landing { flights: self.flights.clone(), key: lookup.key.clone(), sender };
        let starter = CallLink::here();
        place.insert(Joined { outcome: outcome.clone(), deadline: deadline.clone(), starter });
        let waiting = deadline.wait_until(until);
        tokio::spawn(in_this_call(run(self.fetch.clone(), lookup, deadline, landing)));
        Ok((outcome, waiting, false))
    }
}

/// The fetch, within the life of a flight; a panic in it is an outcome too.
async fn run(fetch: impl LookupService, lookup: Lookup, deadline: Deadline, landing: Landing) {
    let limit = Instant::now() + LIFE_MAX;
    // A refresh has no waiter that would keep its flight going.
    let _refresh = (lookup.purpose == Purpose::Refresh).then(|| deadline.wait_until(limit));
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

/// Whether a flight that others had started ended for lack of time, of a turn or of a place on the wire that this caller
/// would have waited for.
fn gave_up_too_early(error: &LookupError, lookup: &Lookup) -> bool {
    let restart = error.restart_after().map(|wait| Instant::now() + wait);
    restart.is_some_and(|restart| lookup.deadline.leaves_time_at(restart))
}

/// Ends a flight: removes it, then tells its waiters. Dropped without an outcome, it still removes it.
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
        match self.clone().join(lookup.clone()).await {
            (Err(error), true) if gave_up_too_early(&error, &lookup) => self.join(lookup).await.0,
            (outcome, _) => outcome,
        }
    }
}
