//! The way of a look-up from a caller to Hypersender and back: the only place that knows the order of the layers.

mod ask;
mod block;
mod breaker;
mod cache;
mod clock;
mod concurrency;
mod flight;
mod keyed;
mod rate;
mod retry;
mod upstream;

use std::sync::Arc;

use tower::retry::RetryLayer;

use self::ask::Boxed;

pub use self::{
    ask::LookupService,
    breaker::Settings as BreakerSettings,
    cache::{PictureCache, Settings as CacheSettings},
    clock::Clock,
    concurrency::Settings as ConcurrencySettings,
    rate::Settings as RateSettings,
    retry::Settings as RetrySettings,
    upstream::{LinkHosts, Proxy, Settings as UpstreamSettings, Unusable, Upstream, is_loopback},
};
use crate::telemetry::LookupMetrics as Metrics;

/// What each layer is set to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cache.
    pub cache: CacheSettings,
    /// Most fetches in progress; beyond it a call is refused at once rather than added to a queue that would not move.
    pub flights: usize,
    /// Retries.
    pub retry: RetrySettings,
    /// When an instance that fails is left alone.
    pub breaker: BreakerSettings,
    /// How fast an instance is asked.
    pub rate: RateSettings,
    /// How many attempts are on the wire.
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

/// Puts the layers around `upstream`, outermost first, each counting into `metrics`. The caller's deadline is part of each
/// look-up.
pub fn stack<S>(
    settings: Settings,
    clock: Clock,
    metrics: &Arc<Metrics>,
    upstream: S,
) -> (Arc<PictureCache>, impl LookupService + use<S>)
where
    S: LookupService,
{
    let cache = Arc::new(PictureCache::new(settings.cache, metrics.clone()));
    let block = Arc::new(block::Block::new());
    let cooling = Arc::new(cache::CoolDowns::new(block.clone()));
    let stack = tower::ServiceBuilder::new()
        // A hit must never queue behind a miss: it turns round here.
        .layer_fn(|inner| cache::Serve::new(cache.clone(), cooling.clone(), clock, inner))
        // However many ask, one fetch; what is below happens once for all of them.
        .layer_fn(|inner| Boxed(flight::Flight::new(settings.flights, metrics.clone(), inner)))
        // Inside the flight, so that the answer is stored before the flight is gone.
        .layer_fn(|inner| Boxed(cache::Fill::new(cache.clone(), cooling.clone(), clock, inner)))
        // Each attempt goes through everything below on its own, and is paid for there.
        .layer(RetryLayer::new(retry::Policy::new(&settings.retry, clock, metrics.clone())))
        // Before the rate limit: a call that an open breaker refuses must not use up a turn.
        .layer_fn(|inner| Boxed(breaker::Breaker::new(settings.breaker, metrics.clone(), inner)))
        // Before the places on the wire: whoever waits for a turn must not hold one.
        .layer_fn(|inner| Boxed(rate::RateLimit::new(settings.rate, metrics.clone(), inner)))
        .layer_fn(|inner| Boxed(concurrency::ConcurrencyLimit::new(settings.concurrency, inner)))
        // Last: what waited above for a turn or a place must not go into a block that has begun meanwhile. What comes later is
        // turned round by `Fill` already.
        .layer_fn(|inner| Boxed(block::Gate::new(block.clone(), inner)))
        // One attempt, with its time-out.
        .service(upstream);
    (cache, stack)
}
