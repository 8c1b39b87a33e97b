//! [`Fill`]: the part of the cache that works once for each fetch. It stores the answer, or remembers the
//! failure, in memory and in the shared store.

use std::sync::Arc;

use rand::RngExt;
use tower::ServiceExt;

use super::{
    CoolDowns, PictureCache, Settled,
    boarding::{Boarded, Boarding, Fetch},
    recorded,
};
use crate::{
    domain::{Answer, CacheInfo, Credential, Key, Lookup, LookupError, StoreLoss},
    stack::{
        ask::{Ask, LookupService},
        clock::Clock,
        flight::LIFE_MAX,
        store::{Lease, Store},
    },
};

/// The layer that stores the answers of the layer below.
#[derive(Clone, Debug)]
pub struct Fill<S> {
    cache: Arc<PictureCache>,
    cooling: Arc<CoolDowns>,
    clock: Clock,
    store: Option<Store>,
    inner: S,
}

impl<S> Fill<S> {
    /// Fills `cache` through `inner`, and shares what it learns in `store`.
    pub fn new(
        cache: Arc<PictureCache>,
        cooling: Arc<CoolDowns>,
        clock: Clock,
        store: Option<Store>,
        inner: S,
    ) -> Self {
        Self { cache, cooling, clock, store, inner }
    }

    /// Stores an answer in memory, and in the background in the store.
    fn settle(&self, key: &Key, answer: Answer, Fetch { lease, known }: Fetch) -> Answer {
        let spread = rand::rng().random_range(0.9..=1.0);
        let settled = self.cache.settle(key, &answer, spread, known);
        self.cooling.end(key);
        // An answer to an attempt that began before the token was rejected says nothing about the token.
        if !self.cache.is_revoked(&key.scope) {
            self.cooling.end_of_scope(&key.scope);
        }
        let ttl = settled.entry.ttl(self.clock.now());
        if let (Some(lease), Some(store)) = (lease, &self.store) {
            self.share(lease, store, &settled, &answer);
        }
        Answer { cache: CacheInfo { ttl, ..answer.cache }, ..answer }
    }

    /// Stores an answer in the store. The lease of an answer that no caller could get from there is released.
    fn share(&self, lease: Lease, store: &Store, settled: &Settled, answer: &Answer) {
        let (Settled { entry, is_change }, clock) = (settled, store.clock());
        let ttl = entry.useful_for(self.clock.now(), &self.cache.settings);
        let began = clock.at(recorded::began(entry, answer.fetched.instant, answer.took));
        if let (Some(record), Some(began)) = (recorded::record(entry, clock), began)
            && !ttl.is_zero()
        {
            lease.store(record, began, ttl, *is_change);
        }
    }

    /// Remembers a failure in memory, and in the background in the store. Returns it with the time to wait.
    fn fail(
        &self,
        key: &Key,
        credential: &Credential,
        error: LookupError,
        lease: Option<Lease>,
    ) -> LookupError {
        let (handling, now) = (error.handling(), self.clock.now().instant);
        if handling.revokes_stored_answers {
            self.cache.revoke(&key.scope, now);
            if let Some(store) = &self.store {
                store.reject(&key.scope, credential, now);
            }
        }
        let error = self.cooling.begin(key, error, now);
        if let (Some(lease), Some(store), Some(reach)) = (lease, &self.store, handling.cool_down)
            && let Some(record) = self.cooling.record(key, reach, store.clock())
        {
            lease.fail(record, reach);
        }
        error
    }
}

impl<S: LookupService> Ask for Fill<S> {
    async fn ask(self, mut lookup: Lookup) -> Result<Answer, LookupError> {
        let (key, seen, now) = (lookup.key.clone(), lookup.seen, self.clock.now());
        // Another flight may have ended since the caller looked into the cache. Its answer is as new as the
        // answer of another fetch would be. An old answer that was read from the store meanwhile is not.
        let is_new = |answer: &Answer| now.instant < answer.fetched.instant + LIFE_MAX;
        let said = self.cache.get(&key).and_then(|entry| entry.said_since(seen, now));
        if let Some(answer) = said.filter(|answer| self.store.is_none() || is_new(answer)) {
            return Ok(answer);
        }
        if let Some(failure) = self.cooling.failure(&key, now.instant) {
            return Err(failure);
        }
        // While it exists, the process keeps track of the token, so that a rejection during the fetch is
        // known at its end, even when nothing is stored.
        let _trust = self.cache.trust(&key.scope);
        lookup.store_loss = self.store.as_ref().map(|_| StoreLoss::default());
        let fetch = match &self.store {
            Some(store) if !lookup.without_store => {
                let (cache, cooling, clock) = (&*self.cache, &*self.cooling, self.clock);
                match (Boarding { cache, cooling, clock, store }).board(&mut lookup).await {
                    Boarded::Ended(result) => return result,
                    Boarded::Fetches(fetch) => fetch,
                }
            }
            Some(_) | None => Fetch::default(),
        };
        let credential = lookup.credential.clone();
        let asked = self.inner.clone().oneshot(lookup);
        let fetched = match &fetch.lease {
            Some(lease) => lease.keep(asked).await,
            None => asked.await,
        };
        match fetched {
            Ok(answer) => Ok(self.settle(&key, answer, fetch)),
            Err(error) => Err(self.fail(&key, &credential, error, fetch.lease)),
        }
    }
}
