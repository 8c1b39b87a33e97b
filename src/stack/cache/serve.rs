//! [`Serve`]: the part of the cache that works for each caller, before a fetch and after it.
//!
//! A hit is answered here. Nothing is stored here: the work that is done once for each fetch is in
//! [`super::Fill`].

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either};
use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt};

use super::{
    CoolDowns, PictureCache,
    freshness::{Decision, Entry, after_fetch, decide},
};
use crate::{
    domain::{Answer, CacheControl, CacheStatus, Deadline, Key, Lookup, LookupError, Purpose},
    stack::{ask::LookupService, clock::Clock, flight::LIFE_MAX, rate::Rates},
    telemetry::in_this_call,
};

/// The layer that answers callers from the cache. All clones share one `Arc`, because a hit must not pay for
/// a clone of the layers below.
#[derive(Debug)]
pub struct Serve<S>(Arc<Parts<S>>);

#[derive(Debug)]
struct Parts<S> {
    cache: Arc<PictureCache>,
    cooling: Arc<CoolDowns>,
    rates: Rates,
    clock: Clock,
    fetch: S,
}

impl<S> Clone for Serve<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The future of a hit is ready at once and takes no allocation.
pub type ServeFuture =
    Either<Ready<Result<Answer, LookupError>>, BoxFuture<'static, Result<Answer, LookupError>>>;

impl<S> Serve<S> {
    /// Answers from `cache`, or through `fetch` if it must. `rates` says whether there is a turn to spare for
    /// a refresh.
    pub fn new(
        cache: Arc<PictureCache>,
        cooling: Arc<CoolDowns>,
        rates: Rates,
        clock: Clock,
        fetch: S,
    ) -> Self {
        Self(Arc::new(Parts { cache, cooling, rates, clock, fetch }))
    }
}

impl<S: LookupService> Service<Lookup> for Serve<S> {
    type Response = Answer;
    type Error = LookupError;
    type Future = ServeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> ServeFuture {
        match self.recall(lookup) {
            Either::Left(result) => Either::Left(ready(result)),
            Either::Right((lookup, status)) => Either::Right(Box::pin(self.clone().fetch(lookup, status))),
        }
    }
}

impl<S: LookupService> Serve<S> {
    /// The result that memory has. When the contact must be fetched, the look-up comes back, with the status
    /// of the answer after the fetch.
    pub fn recall(&self, mut lookup: Lookup) -> Either<Result<Answer, LookupError>, (Lookup, CacheStatus)> {
        let Parts { cache, cooling, clock, .. } = &*self.0;
        let now = clock.now();
        let stored = cache.get(&lookup.key);
        let decision = decide(stored.as_ref(), now, &lookup.control, &cache.settings);
        lookup.seen = stored.as_ref().map(Entry::asked_at);
        let turned_round = |result| {
            cache.metrics.answered(&result);
            Either::Left(result)
        };
        match (decision, stored) {
            (Decision::Serve(status), Some(entry)) => turned_round(Ok(entry.answer(status, now))),
            (Decision::ServeAndRefresh, Some(entry)) => {
                // During a cool-down a refresh would end at once, and a hot key would start very many.
                if cooling.failure(&lookup.key, now.instant).is_none() {
                    self.refresh(lookup, now.instant);
                }
                turned_round(Ok(entry.answer(CacheStatus::Stale, now)))
            }
            (Decision::Fetch(status), _) => Either::Right((lookup, status)),
            (Decision::NotCached | Decision::Serve(_) | Decision::ServeAndRefresh, _) => {
                turned_round(Err(LookupError::NotCached))
            }
        }
    }

    async fn fetch(self, lookup: Lookup, status: CacheStatus) -> Result<Answer, LookupError> {
        let Parts { cache, fetch, .. } = &*self.0;
        let (key, control) = (lookup.key.clone(), lookup.control);
        let deadline = lookup.deadline.latest();
        let fetched = match deadline {
            Some(deadline) => timeout_at(deadline, fetch.clone().oneshot(lookup))
                .await
                .unwrap_or(Err(LookupError::DeadlineExceeded)),
            None => Err(LookupError::DeadlineExceeded),
        };
        let fetched = fetched.map(|mut answer| {
            answer.cache.status = status;
            answer
        });
        let result = self.after(fetched, &key, &control);
        cache.metrics.answered(&result);
        result
    }

    /// The stored answer that a caller gets in place of `error`, as if a fetch had ended with it.
    ///
    /// # Errors
    ///
    /// `error`, when no stored answer may take its place.
    pub fn in_place_of(
        &self,
        error: LookupError,
        key: &Key,
        control: &CacheControl,
    ) -> Result<Answer, LookupError> {
        let result = self.after(Err(error), key, control);
        if result.is_ok() {
            self.0.cache.metrics.answered(&result);
        }
        result
    }

    /// The result of a look-up that never began, because of `error`.
    pub fn give_up(&self, error: LookupError, lookup: &Lookup) -> Result<Answer, LookupError> {
        let result = self.after(Err(error), &lookup.key, &lookup.control);
        self.0.cache.metrics.answered(&result);
        result
    }

    fn after(
        &self,
        fetched: Result<Answer, LookupError>,
        key: &Key,
        control: &CacheControl,
    ) -> Result<Answer, LookupError> {
        let Parts { cache, clock, .. } = &*self.0;
        after_fetch(fetched, cache.get(key), clock.now(), control, &cache.settings)
    }

    /// Starts a fetch in the background. No caller waits for it, so its deadline is that of the flight.
    ///
    /// For a batch or a stream it starts only when there is a turn to spare now. They may find very many
    /// stale answers at once, whose refreshes would only fill the flights and be refused.
    fn refresh(&self, mut lookup: Lookup, now: Instant) {
        (lookup.own_purpose, lookup.place) = match lookup.own_purpose {
            Purpose::Caller | Purpose::Refresh => (Purpose::Refresh, None),
            Purpose::Batch | Purpose::Stream | Purpose::SpareRefresh => {
                match self.0.rates.place_of_refresh(&lookup.key.scope.instance, now) {
                    Some(place) => (Purpose::SpareRefresh, Some(place)),
                    None => return,
                }
            }
        };
        lookup.batch = None;
        lookup.deadline = Deadline::at(now + LIFE_MAX);
        let fetch = self.0.fetch.clone();
        tokio::spawn(in_this_call(async move {
            // The layer that failed has logged it, and the key cools down.
            let _ = fetch.oneshot(lookup).await;
        }));
    }
}
