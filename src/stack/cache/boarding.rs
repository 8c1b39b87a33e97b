//! [`Boarding`]: what a look-up does with the shared store before it fetches. It gets an answer or a
//! cool-down that another replica has stored, or the lease of the fetch.

use std::{ops::RangeInclusive, time::Duration};

use rand::RngExt;
use tokio::time::{Instant, sleep};

use super::{
    CoolDowns, PictureCache,
    freshness::{Decision, Entry, decide},
};
use crate::{
    domain::{Answer, CacheStatus, Lookup, LookupError, Now, Reach},
    stack::{
        clock::Clock,
        store::{Lease, Leasing, Reading, Seen, Store},
    },
};

/// The bounds of the random pause before the store is asked again for a contact that another replica fetches,
/// in ms. It is random so that the replicas that wait do not ask together.
const POLL_MS: RangeInclusive<u64> = 20..=250;

/// A look-up that reads the store before it fetches.
#[derive(Debug)]
pub struct Boarding<'a> {
    pub cache: &'a PictureCache,
    pub cooling: &'a CoolDowns,
    pub clock: Clock,
    pub store: &'a Store,
}

/// The result of [`Boarding::board`].
#[derive(Debug)]
pub enum Boarded {
    /// No request to Hypersender is needed, or allowed.
    Ended(Result<Answer, LookupError>),
    /// This look-up fetches.
    Fetches(Fetch),
}

/// The lease of a fetch, and the stored answer that it replaces.
#[derive(Debug, Default)]
pub struct Fetch {
    /// The lease of the fetch; `None` without the store.
    pub lease: Option<Lease>,
    /// The answer in the store. Memory may have no room for it.
    pub known: Option<Entry>,
}

impl Boarding<'_> {
    /// Reads what the store knows, and waits while another replica fetches. What is read enters memory before
    /// any fetch, so that a null never displaces a living link that only the store knew (rule 7).
    ///
    /// When the store does not answer, the look-up goes on without it, and says so.
    pub async fn board(&self, lookup: &mut Lookup) -> Boarded {
        let began_at = self.clock.now().instant;
        let mut seen = self.seen(lookup);
        let mut known = None;
        loop {
            let Ok(reading) = self.store.read(&lookup.key, &lookup.credential, seen, true).await else {
                lookup.without_store = true;
                return Boarded::Fetches(Fetch { lease: None, known });
            };
            let now = self.clock.now();
            let newly_seen = reading.seen(seen);
            let Reading { answer, failure, scope_failure, lease } = reading;
            if let Some(stored) = answer
                && let Some(entry) = self.cache.take_over(&lookup.key, stored, self.store, now)
            {
                if let Some(answer) = self.accepted(&entry, lookup, began_at, now) {
                    return Boarded::Ended(Ok(answer));
                }
                known = Some(entry);
            }
            for (reach, record) in [(Reach::Key, failure), (Reach::Scope, scope_failure)] {
                if let Some(record) = record {
                    self.cooling.adopt(&lookup.key, reach, record, self.store.clock(), now.instant);
                }
            }
            if let Some(error) = self.cooling.failure(&lookup.key, now.instant) {
                return Boarded::Ended(Err(error));
            }
            match lease {
                Leasing::Taken(lease) => {
                    return Boarded::Fetches(Fetch { lease: Some(lease), known });
                }
                Leasing::Held => {
                    if let Err(error) = wait(lookup).await {
                        return Boarded::Ended(Err(error));
                    }
                }
                // Something is stored that was not seen before. By now it is.
                Leasing::No if newly_seen != seen => {}
                Leasing::No => return Boarded::Fetches(Fetch { lease: None, known }),
            }
            seen = newly_seen;
        }
    }

    /// What the look-up does not accept, as far as this process knows.
    fn seen(&self, lookup: &Lookup) -> Seen {
        let clock = self.store.clock();
        let began = |reach| self.cooling.record(&lookup.key, reach, clock).map(|record| record.began);
        Seen {
            answer: lookup.seen.and_then(|asked_at| clock.at(asked_at)),
            failure: began(Reach::Key),
            scope_failure: began(Reach::Scope),
        }
    }

    /// The answer of the store, if the flight may end with it.
    fn accepted(&self, entry: &Entry, lookup: &Lookup, began_at: Instant, now: Now) -> Option<Answer> {
        // Hypersender was asked since the flight began. That answer is as new as the answer of another fetch
        // would be.
        if let Some(answer) = entry.said_since(Some(began_at), now) {
            return Some(answer);
        }
        let status = match decide(Some(entry), now, &lookup.control, &self.cache.settings) {
            Decision::Serve(status) => status,
            // A refresh has begun because the answer is stale.
            Decision::ServeAndRefresh if !lookup.own_purpose.is_refresh() => CacheStatus::Stale,
            Decision::ServeAndRefresh | Decision::Fetch(_) | Decision::NotCached => return None,
        };
        let mut answer = entry.clone().answer(status, now);
        answer.cache.is_read = true;
        Some(answer)
    }
}

impl Reading {
    /// What has been seen once this was read by a caller that had seen `before`.
    fn seen(&self, before: Seen) -> Seen {
        Seen {
            answer: before.answer.max(self.answer.as_ref().map(|stored| stored.asked_at)),
            failure: before.failure.max(self.failure.as_ref().map(|failure| failure.began)),
            scope_failure: before.scope_failure.max(self.scope_failure.as_ref().map(|failure| failure.began)),
        }
    }
}

/// Waits until the store is asked again for a contact that another replica fetches.
///
/// # Errors
///
/// [`LookupError::Overloaded`] for a refresh, which never waits, and [`LookupError::DeadlineExceeded`] when
/// no caller waits any more.
async fn wait(lookup: &Lookup) -> Result<(), LookupError> {
    if lookup.purpose().is_refresh() {
        return Err(LookupError::Overloaded);
    }
    // The other replica takes the turn.
    if let Some(place) = &lookup.place {
        place.leave();
    }
    let left = lookup.deadline.latest().map(|latest| latest.saturating_duration_since(Instant::now()));
    let Some(left) = left.filter(|left| !left.is_zero()) else {
        return Err(LookupError::DeadlineExceeded);
    };
    let pause = Duration::from_millis(rand::rng().random_range(POLL_MS));
    sleep(left.min(pause)).await;
    Ok(())
}
