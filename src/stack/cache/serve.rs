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
    CoolDowns, PictureCache, Trust,
    freshness::{Decision, Entry, after_fetch, decide, yields},
};
use crate::{
    domain::{Answer, CacheControl, CacheStatus, Deadline, Key, Lookup, LookupError, Now, Purpose, Scope},
    stack::{
        ask::LookupService,
        clock::Clock,
        flight::LIFE_MAX,
        rate::Rates,
        store::{Seen, Store, Unavailable},
    },
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
    store: Option<Store>,
    fetch: S,
}

impl<S> Clone for Serve<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The future of a hit is ready at once and takes no allocation.
pub type ServeFuture = Either<Ready<Found>, BoxFuture<'static, Found>>;

type Found = Result<Answer, LookupError>;

impl<S> Serve<S> {
    /// Answers from `cache`, or through `fetch` if it must. `rates` says whether there is a turn to spare for
    /// a refresh. `fetch` reads `store`; callers that want no fetch read it here.
    pub fn new(
        cache: Arc<PictureCache>,
        cooling: Arc<CoolDowns>,
        rates: Rates,
        clock: Clock,
        store: Option<Store>,
        fetch: S,
    ) -> Self {
        Self(Arc::new(Parts { cache, cooling, rates, clock, store, fetch }))
    }

    /// Whether there is a store that could have what memory does not have.
    pub fn has_store(&self) -> bool {
        self.0.store.is_some()
    }

    /// See [`PictureCache::trust`].
    pub fn trust(&self, scope: &Scope) -> Trust {
        self.0.cache.trust(scope)
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
    /// The result that memory has. When the contact must be fetched or read from the store, the look-up comes
    /// back, with the status of the answer after the fetch.
    pub fn recall(&self, lookup: Lookup) -> Either<Found, (Lookup, CacheStatus)> {
        let now = self.0.clock.now();
        let stored = self.0.cache.get(&lookup.key);
        self.judge(lookup, stored, now)
    }

    /// The result for a caller when `stored` is what is known of the contact.
    #[inline]
    fn judge(
        &self,
        mut lookup: Lookup,
        stored: Option<Entry>,
        now: Now,
    ) -> Either<Found, (Lookup, CacheStatus)> {
        let Parts { cache, cooling, store, .. } = &*self.0;
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
            (Decision::NotCached, _) if store.is_some() && !lookup.without_store => {
                Either::Right((lookup, CacheStatus::Miss))
            }
            (Decision::NotCached | Decision::Serve(_) | Decision::ServeAndRefresh, _) => {
                turned_round(Err(LookupError::NotCached))
            }
        }
    }

    /// The results for those of `lookups`, at most 64 of one scope, that the store has an acceptable answer
    /// for. The others come back and need a fetch; all that was read is in memory, as far as it has room.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the store does not answer before `deadline`, with nothing read.
    pub async fn recall_group(
        &self,
        lookups: &[Lookup],
        deadline: Instant,
    ) -> Result<Vec<Option<Found>>, Unavailable> {
        let Parts { cache, clock, store, .. } = &*self.0;
        let (Some(store), Some(Lookup { key, credential, .. })) = (store, lookups.first()) else {
            return Err(Unavailable);
        };
        let chats: Vec<_> = lookups.iter().map(|lookup| lookup.key.chat.clone()).collect();
        let read = store.read_group(&key.scope, credential, &chats);
        let read = timeout_at(deadline, read).await.map_err(|_| Unavailable)??;
        let now = clock.now();
        let judged = lookups.iter().zip(read).map(|(lookup, stored)| {
            let key = &lookup.key;
            let entry = stored.and_then(|stored| cache.take_over(key, stored, store, now));
            match self.judge(once_read(lookup.clone()), entry.or_else(|| cache.get(key)), now) {
                Either::Left(found) => Some(found),
                Either::Right(_) => None,
            }
        });
        Ok(judged.collect())
    }

    /// The answer of memory, or else of the store, which is read once. `None` also when the store has not
    /// answered at the deadline of the caller.
    async fn stored(&self, lookup: &Lookup) -> Option<Entry> {
        let Parts { cache, clock, store, .. } = &*self.0;
        if let (Some(store), Some(deadline)) = (store, lookup.deadline.latest())
            && let read = store.read(&lookup.key, &lookup.credential, Seen::default(), false)
            && let Ok(Ok(reading)) = timeout_at(deadline, read).await
            && let Some(stored) = reading.answer
            && let Some(entry) = cache.take_over(&lookup.key, stored, store, clock.now())
        {
            return Some(entry);
        }
        cache.get(&lookup.key)
    }

    /// The result for a caller that wants no fetch.
    async fn read_once(&self, lookup: Lookup) -> Found {
        let entry = self.stored(&lookup).await;
        match self.judge(once_read(lookup), entry, self.0.clock.now()) {
            Either::Left(found) => found,
            Either::Right(_) => Err(LookupError::NotCached),
        }
    }

    /// The answer that may take the place of `fetched`. A process whose memory has room for nothing finds it
    /// in the store.
    async fn in_place(&self, fetched: &Found, lookup: &Lookup) -> Option<Entry> {
        let Parts { cache, clock, store, .. } = &*self.0;
        let has_room = cache.settings.entries > 0;
        if has_room || store.is_none() || !yields(fetched, clock.now()) {
            return cache.get(&lookup.key);
        }
        self.stored(lookup).await
    }

    async fn fetch(self, mut lookup: Lookup, mut status: CacheStatus) -> Found {
        if lookup.control.only_if_cached {
            return self.read_once(lookup).await;
        }
        let Parts { cache, clock, fetch, .. } = &*self.0;
        let deadline = lookup.deadline.latest();
        let fetched = loop {
            let fetched = match deadline {
                Some(deadline) => timeout_at(deadline, fetch.clone().oneshot(lookup.clone()))
                    .await
                    .unwrap_or(Err(LookupError::DeadlineExceeded)),
                None => Err(LookupError::DeadlineExceeded),
            };
            match fetched {
                Ok(answer) if answer.cache.is_read => match self.judge_read(lookup, answer) {
                    Either::Left(found) => return found,
                    Either::Right(again) => (lookup, status) = again,
                },
                Ok(mut answer) => {
                    answer.cache.status = status;
                    break Ok(answer);
                }
                Err(error) => break Err(error),
            }
        };
        let stored = self.in_place(&fetched, &lookup).await;
        let result = after_fetch(fetched, stored, clock.now(), &lookup.control, &cache.settings);
        cache.metrics.answered(&result);
        result
    }

    /// The result for one of the callers of a flight that ended with an answer of the store. It was good
    /// enough for the caller who started the flight. One who joined may refuse it, and boards again.
    fn judge_read(&self, lookup: Lookup, answer: Answer) -> Either<Found, (Lookup, CacheStatus)> {
        let Parts { cache, clock, .. } = &*self.0;
        let (now, collapsed) = (clock.now(), answer.cache.collapsed);
        let entry = cache.get(&lookup.key).unwrap_or_else(|| Entry::of_read(answer.clone(), now));
        match self.judge(lookup, Some(entry), now) {
            Either::Left(Ok(mut answer)) => {
                answer.cache.collapsed = collapsed;
                Either::Left(Ok(answer))
            }
            // Only time has passed since the answer was accepted, or memory has no room for a doubt about it.
            Either::Right(_) if !collapsed => {
                let found = Ok(answer);
                cache.metrics.answered(&found);
                Either::Left(found)
            }
            judged => judged,
        }
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

    /// The result of a look-up that never began, because of `error`. A refusal of the rate limit counts as
    /// one.
    pub fn give_up(&self, error: LookupError, lookup: &Lookup) -> Result<Answer, LookupError> {
        if matches!(error, LookupError::RateLimited { .. }) {
            self.0.cache.metrics.refused(lookup.own_purpose);
        }
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
    /// For a batch, an avatar or a stream it starts only when there is a turn to spare now. They may find
    /// very many stale answers at once, whose refreshes would only fill the flights and be refused.
    fn refresh(&self, mut lookup: Lookup, now: Instant) {
        (lookup.own_purpose, lookup.place) = match lookup.own_purpose {
            Purpose::Caller | Purpose::Refresh => (Purpose::Refresh, None),
            Purpose::Batch | Purpose::Avatar | Purpose::Stream | Purpose::SpareRefresh => {
                match self.0.rates.place_of_refresh(&lookup.key.scope.instance, now) {
                    Some(place) => (Purpose::SpareRefresh, Some(place)),
                    None => return,
                }
            }
        };
        lookup.batch = None;
        // The refresh is a flight of its own, also when the look-up itself only joins flights in progress.
        lookup.joins_only = false;
        lookup.deadline = Deadline::at(now + LIFE_MAX);
        let fetch = self.0.fetch.clone();
        tokio::spawn(in_this_call(async move {
            // The layer that failed has logged it, and the key cools down.
            let _ = fetch.oneshot(lookup).await;
        }));
    }
}

/// A look-up for which the store was read. Where its caller wants no fetch, that was all.
fn once_read(lookup: Lookup) -> Lookup {
    Lookup { without_store: lookup.without_store || lookup.control.only_if_cached, ..lookup }
}
