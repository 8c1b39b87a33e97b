//! The way of a look-up from a caller to Hypersender and back: the only place that knows the order of the layers.

mod cache;
mod clock;
mod flight;
mod retry;
mod upstream;

use std::sync::Arc;

use tower::{Service, layer::layer_fn, retry::RetryLayer};

pub use self::{
    cache::{PictureCache, Settings as CacheSettings},
    clock::Clock,
    retry::Settings as RetrySettings,
    upstream::{Settings as UpstreamSettings, Upstream, is_loopback},
};
use crate::domain::{Answer, Lookup, LookupError};

/// Most fetches in progress; beyond it a call is refused at once rather than added to a queue that would not move.
pub const FLIGHTS_MAX: usize = 1024;

/// What each layer is set to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cache.
    pub cache: CacheSettings,
    /// Most fetches in progress.
    pub flights: usize,
    /// Retries.
    pub retry: RetrySettings,
}

/// Puts the layers around `upstream`, outermost first. The caller's deadline is part of each look-up.
pub fn stack<S>(
    settings: Settings,
    clock: Clock,
    upstream: S,
) -> (
    Arc<PictureCache>,
    impl Service<Lookup, Response = Answer, Error = LookupError, Future: Send> + Clone + Send + Sync,
)
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let cache = Arc::new(PictureCache::new(settings.cache));
    let stack = tower::ServiceBuilder::new()
        // A hit must never queue behind a miss: it turns round here.
        .layer(layer_fn(|inner| cache::Serve::new(cache.clone(), clock, inner)))
        // However many ask, one fetch; what is below happens once for all of them.
        .layer(layer_fn(|inner| flight::Flight::new(settings.flights, inner)))
        // Inside the flight, so that the answer is stored before the flight is gone.
        .layer(layer_fn(|inner| cache::Fill::new(cache.clone(), clock, inner)))
        // Each attempt goes through everything below on its own.
        .layer(RetryLayer::new(retry::Policy::new(settings.retry.clone(), clock)))
        .service(upstream);
    (cache, stack)
}
