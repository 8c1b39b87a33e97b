//! [`Fill`]: what happens once for each fetch, whoever waits for it: the answer is stored.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use rand::RngExt;
use tower::{Service, ServiceExt};

use super::PictureCache;
use crate::{
    domain::{Answer, CacheStatus, Lookup, LookupError},
    stack::clock::Clock,
};

/// Stores what the service below brings.
#[derive(Clone, Debug)]
pub struct Fill<S> {
    cache: Arc<PictureCache>,
    clock: Clock,
    ask: S,
}

impl<S> Fill<S> {
    /// Fills `cache` through `ask`.
    pub fn new(cache: Arc<PictureCache>, clock: Clock, ask: S) -> Self {
        Self { cache, clock, ask }
    }
}

impl<S> Service<Lookup> for Fill<S>
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = LookupError;
    type Future = BoxFuture<'static, Result<Answer, LookupError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> Self::Future {
        Box::pin(self.clone().fill(lookup))
    }
}

impl<S> Fill<S>
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Send + 'static,
    S::Future: Send,
{
    async fn fill(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let (key, seen) = (lookup.key.clone(), lookup.seen);
        // Between the caller's look and this flight another one may have ended: its answer is as new as ours would be.
        let missed = self.cache.get(&key).filter(|entry| Some(entry.asked_at()) > seen);
        if let Some(entry) = missed {
            return Ok(entry.answer(CacheStatus::Miss, self.clock.now()));
        }
        let answer = self.ask.oneshot(lookup).await?;
        let spread = rand::rng().random_range(0.9..=1.0);
        let entry = self.cache.settle(&key, &answer, spread);
        let ttl = entry.answer(CacheStatus::Miss, self.clock.now()).cache.ttl;
        Ok(Answer { cache: crate::domain::CacheInfo { ttl, ..answer.cache }, ..answer })
    }
}
