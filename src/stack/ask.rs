//! [`Ask`]: a layer of the look-up, written as one async function. [`Boxed`] makes a tower service of it.
//!
//! Every layer except `cache::Serve` is built this way. `Serve` implements the service itself, because a hit
//! must not pay for a boxed future.

use std::{
    future::Future,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::domain::{Answer, Lookup, LookupError};

/// A tower service that answers look-ups: the layer below another one.
pub trait LookupService:
    Service<Lookup, Response = Answer, Error = LookupError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> LookupService for S where
    S: Service<Lookup, Response = Answer, Error = LookupError, Future: Send> + Clone + Send + Sync + 'static
{
}

/// A layer of the look-up. It is cloned for each look-up, so shared state is held by an `Arc`.
pub trait Ask: Clone + Send + 'static {
    /// Answers one look-up, by itself or through the layer below.
    fn ask(self, lookup: Lookup) -> impl Future<Output = Result<Answer, LookupError>> + Send;
}

/// A layer as a tower service. It is always ready. A layer that has to wait does so inside the future of the
/// look-up, where the deadline is known. Each look-up costs one allocation for its future.
#[derive(Clone, Debug)]
pub struct Boxed<L>(pub L);

impl<L: Ask> Service<Lookup> for Boxed<L> {
    type Response = Answer;
    type Error = LookupError;
    type Future = BoxFuture<'static, Result<Answer, LookupError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> Self::Future {
        Box::pin(self.0.clone().ask(lookup))
    }
}
