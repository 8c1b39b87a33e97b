//! [`Fill`]: the part of the cache that works once for each fetch. It stores the answer, or remembers the
//! failure.

use std::sync::Arc;

use rand::RngExt;
use tower::ServiceExt;

use super::{CoolDowns, PictureCache};
use crate::{
    domain::{Answer, CacheInfo, Lookup, LookupError},
    stack::{
        ask::{Ask, LookupService},
        clock::Clock,
    },
};

/// The layer that stores the answers of the layer below.
#[derive(Clone, Debug)]
pub struct Fill<S> {
    cache: Arc<PictureCache>,
    cooling: Arc<CoolDowns>,
    clock: Clock,
    inner: S,
}

impl<S> Fill<S> {
    /// Fills `cache` through `inner`.
    pub fn new(cache: Arc<PictureCache>, cooling: Arc<CoolDowns>, clock: Clock, inner: S) -> Self {
        Self { cache, cooling, clock, inner }
    }
}

impl<S: LookupService> Ask for Fill<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let (key, seen, now) = (lookup.key.clone(), lookup.seen, self.clock.now());
        // Another flight may have ended since the caller looked into the cache. Its answer is as new as the
        // answer of another fetch would be.
        if let Some(answer) = self.cache.get(&key).and_then(|entry| entry.said_since(seen, now)) {
            return Ok(answer);
        }
        if let Some(failure) = self.cooling.failure(&key, now.instant) {
            return Err(failure);
        }
        match self.inner.oneshot(lookup).await {
            Ok(answer) => {
                self.cooling.end(&key);
                let spread = rand::rng().random_range(0.9..=1.0);
                let entry = self.cache.settle(&key, &answer, spread);
                let ttl = entry.ttl(self.clock.now());
                Ok(Answer { cache: CacheInfo { ttl, ..answer.cache }, ..answer })
            }
            Err(error) => {
                if error.handling().revokes_stored_answers {
                    self.cache.revoke(&key.scope);
                }
                Err(self.cooling.begin(&key, error, self.clock.now().instant))
            }
        }
    }
}
