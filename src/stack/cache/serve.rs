//! [`Serve`]: what one caller gets from the cache, before a fetch and after it.
//!
//! A hit turns round here. Nothing is stored: what happens once for each fetch is [`super::Fill`]'s.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either};
use tokio::time::timeout_at;
use tower::{Service, ServiceExt};

use super::{
    PictureCache,
    freshness::{Decision, Entry, after_fetch, decide},
};
use crate::{
    domain::{Answer, CacheStatus, Deadline, Lookup, LookupError, Purpose},
    stack::clock::Clock,
};

/// The cache as one caller sees it, around a service that fetches.
#[derive(Clone, Debug)]
pub struct Serve<S> {
    cache: Arc<PictureCache>,
    clock: Clock,
    fetch: S,
}

/// A hit is ready at once and takes no block of memory for its future.
pub type ServeFuture =
    Either<Ready<Result<Answer, LookupError>>, BoxFuture<'static, Result<Answer, LookupError>>>;

impl<S> Serve<S> {
    /// Serves from `cache`, and through `fetch` what is not there.
    pub fn new(cache: Arc<PictureCache>, clock: Clock, fetch: S) -> Self {
        Self { cache, clock, fetch }
    }
}

impl<S> Service<Lookup> for Serve<S>
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = LookupError;
    type Future = ServeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut lookup: Lookup) -> ServeFuture {
        let now = self.clock.now();
        let stored = self.cache.get(&lookup.key);
        let decision = decide(stored.as_ref(), now, &lookup.control, &self.cache.settings);
        lookup.seen = stored.as_ref().map(Entry::asked_at);
        match (decision, stored) {
            (Decision::Serve(status), Some(entry)) => Either::Left(ready(Ok(entry.answer(status, now)))),
            (Decision::ServeAndRefresh, Some(entry)) => {
                self.refresh(lookup);
                Either::Left(ready(Ok(entry.answer(CacheStatus::Stale, now))))
            }
            (Decision::Fetch(status), _) => Either::Right(Box::pin(self.clone().fetch(lookup, status))),
            (Decision::NotCached | Decision::Serve(_) | Decision::ServeAndRefresh, _) => {
                Either::Left(ready(Err(LookupError::NotCached)))
            }
        }
    }
}

impl<S> Serve<S>
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Clone + Send + 'static,
    S::Future: Send,
{
    async fn fetch(self, lookup: Lookup, status: CacheStatus) -> Result<Answer, LookupError> {
        let (key, control) = (lookup.key.clone(), lookup.control);
        let deadline = lookup.deadline.latest();
        let fetched = match deadline {
            Some(deadline) => timeout_at(deadline, self.fetch.oneshot(lookup))
                .await
                .unwrap_or(Err(LookupError::DeadlineExceeded)),
            None => Err(LookupError::DeadlineExceeded),
        };
        let fetched = fetched.map(|mut answer| {
            answer.cache.status = status;
            answer
        });
        let stored = self.cache.get(&key);
        after_fetch(fetched, stored, self.clock.now(), &control, &self.cache.settings)
    }

    /// Nobody waits for it, so it starts from a deadline of its own: the flight's.
    fn refresh(&self, mut lookup: Lookup) {
        lookup.purpose = Purpose::Refresh;
        lookup.deadline = Deadline::at(self.clock.now().instant + super::super::flight::LIFE_MAX);
        let fetch = self.fetch.clone();
        tokio::spawn(async move {
            // Its failure is in the log of whoever failed, and starts a pause of the key.
            let _ = fetch.oneshot(lookup).await;
        });
    }
}
