//! The way of a look-up from a caller to Hypersender and back. Only this file knows the order of the layers.
//!
//! The locks in these layers are parking_lot's, which a panic does not poison. The state behind a lock stays
//! consistent after a panic, because no change under a lock can panic half-way.

mod ask;
mod avatar;
mod batch;
mod block;
mod breaker;
mod cache;
mod claim;
mod clock;
mod concurrency;
mod flight;
mod keyed;
mod rate;
mod retry;
mod store;
mod stream;
mod upstream;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Service, retry::RetryLayer};

use self::ask::Boxed;

pub use self::{
    ask::LookupService,
    batch::LookupBatch,
    block::AttemptService,
    breaker::Settings as BreakerSettings,
    cache::{PictureCache, ServeFuture, Settings as CacheSettings, Trust},
    clock::Clock,
    concurrency::Settings as ConcurrencySettings,
    keyed::{Idle, Keyed},
    rate::Settings as RateSettings,
    retry::Settings as RetrySettings,
    store::{
        Place as StorePlace, Server as StoreServer, Setting as StoreSetting, Settings as StoreSettings,
        Store, Unusable as StoreUnusable,
    },
    stream::{Contacts, Forecast, Found, LookupStream},
    upstream::{LinkHosts, Proxy, Settings as UpstreamSettings, Unusable, Upstream, is_loopback},
};
use crate::{
    domain::{Answer, Lookup, LookupError, Scope},
    telemetry::LookupMetrics as Metrics,
};

/// The settings of all layers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cache.
    pub cache: CacheSettings,
    /// The most fetches in progress. When there are more, a call is refused at once instead of joining a
    /// queue that would not move.
    pub flights: usize,
    /// Retries.
    pub retry: RetrySettings,
    /// When the circuit breaker of an instance opens.
    pub breaker: BreakerSettings,
    /// How fast an instance may be asked.
    pub rate: RateSettings,
    /// How many attempts may be on the wire.
    pub concurrency: ConcurrencySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache: CacheSettings::default(),
            flights: 1024,
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            rate: RateSettings::default(),
            concurrency: ConcurrencySettings::default(),
        }
    }
}

/// The whole stack. It answers single look-ups, as a service, and batches and streams of them.
#[derive(Debug)]
pub struct Stack<F> {
    serve: cache::Serve<F>,
    batches: Arc<batch::Bounds>,
    pace: Arc<stream::Pace>,
}

impl<F> Clone for Stack<F> {
    fn clone(&self) -> Self {
        Self { serve: self.serve.clone(), batches: self.batches.clone(), pace: self.pace.clone() }
    }
}

impl<F: LookupService> Stack<F> {
    /// Answers `lookups` from memory, all of them of one instance with one deadline. The others begin when
    /// the batch is awaited.
    #[must_use]
    pub fn batch(&self, lookups: impl Iterator<Item = Lookup>) -> LookupBatch<F> {
        LookupBatch::begin(self, lookups)
    }

    /// Looks up one contact for an image in a browser. Memory, a flight in progress and the store come first.
    /// Otherwise the look-up waits for a spare turn (rule 38), behind the avatars of its instance that came
    /// before and ahead of all streams (rule 59). The caller bounds the number of look-ups that wait.
    ///
    /// It goes on only while the future is polled, and keeps its place in the queue until it ends or is
    /// dropped. Poll it in a task of its own, so that no other look-up waits for one that does not go on.
    ///
    /// It ends at its deadline at the latest, earlier when no turn can come in time, and at once, or within a
    /// second, in a cool-down, a pause or a block, or while the breaker of the instance is open. A usable
    /// stale answer takes the place of the error.
    #[must_use]
    pub fn avatar(&self, lookup: Lookup) -> ServeFuture {
        avatar::look_up(self, lookup)
    }

    /// Trust in the token of `scope` from now on. Taken before a look-up, it shows whether the token was
    /// rejected since then, in this process or on another replica.
    #[must_use]
    pub fn trust(&self, scope: &Scope) -> Trust {
        self.serve.trust(scope)
    }

    /// Begins to look up many contacts. Nothing happens before the stream is polled.
    #[must_use]
    pub fn stream(&self, contacts: Contacts) -> LookupStream<F> {
        LookupStream::new(self.clone(), contacts)
    }
}

impl<F: LookupService> Service<Lookup> for Stack<F> {
    type Response = Answer;
    type Error = LookupError;
    type Future = ServeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> ServeFuture {
        self.serve.call(lookup)
    }
}

/// Puts the layers around `upstream`, outermost first. Each counts into `metrics`. The caller's deadline is
/// part of each look-up. With a `store`, the cache and the rate limit share what they know with other
/// replicas, or keep it across restarts.
pub fn stack<S>(
    settings: Settings,
    clock: Clock,
    metrics: &Arc<Metrics>,
    store: Option<&Store>,
    upstream: S,
) -> (Arc<PictureCache>, Stack<impl LookupService + use<S>>)
where
    S: AttemptService,
{
    let cache = Arc::new(PictureCache::new(settings.cache, metrics.clone()));
    if let Some(store) = store {
        store.tell(cache.clone());
    }
    let block = Arc::new(block::Block::new());
    let cooling = Arc::new(cache::CoolDowns::new(block.clone()));
    let rates = rate::Rates::new(settings.rate, store.cloned());
    let circuits = breaker::Circuits::new();
    let batches = Arc::new(batch::Bounds::new(settings.flights, rates.clone()));
    let pace = Arc::new(stream::Pace {
        obstacles: stream::Obstacles {
            block: block.clone(),
            cooling: cooling.clone(),
            circuits: circuits.clone(),
            rates: rates.clone(),
        },
        lanes: stream::Lanes::new(settings.flights, settings.concurrency),
    });
    let stack = tower::ServiceBuilder::new()
        // Outermost: a hit is answered here and never queues behind a miss.
        .layer_fn(|inner| Stack {
            serve: cache::Serve::new(
                cache.clone(),
                cooling.clone(),
                rates.clone(),
                clock,
                store.cloned(),
                inner,
            ),
            batches: batches.clone(),
            pace: pace.clone(),
        })
        // All callers of one key share one fetch. The layers below run once for all of them.
        .layer_fn(|inner| Boxed(flight::Flight::new(settings.flights, metrics.clone(), inner)))
        // Inside the flight, so that the answer is stored before the flight ends.
        .layer_fn(|inner| {
            Boxed(cache::Fill::new(cache.clone(), cooling.clone(), clock, store.cloned(), inner))
        })
        // Each attempt passes the layers below by itself, and is counted and limited there.
        .layer(RetryLayer::new(retry::Policy::new(&settings.retry, clock, metrics.clone())))
        // Before the rate limit, so that a call which an open breaker refuses does not use up a turn.
        .layer_fn(|inner| {
            Boxed(breaker::Breaker::new(circuits.clone(), settings.breaker, metrics.clone(), inner))
        })
        // Before the concurrency limit, so that a call which waits for a turn does not hold a permit.
        .layer_fn(|inner| Boxed(rate::RateLimit::new(rates.clone(), metrics.clone(), inner)))
        .layer_fn(|inner| {
            Boxed(concurrency::ConcurrencyLimit::new(settings.concurrency, rates.clone(), inner))
        })
        // Last, so that a call which waited above for a turn or a permit does not run into a block that has
        // begun meanwhile. `Fill` refuses the calls that come later.
        .layer_fn(|inner| Boxed(block::Gate::new(block.clone(), inner)))
        // One attempt, with its time-out.
        .service(upstream);
    (cache, stack)
}
