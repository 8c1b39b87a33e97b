//! [`InFlightLayer`]: a limit on the calls in progress over all connections; a further call is refused at
//! once.
//!
//! It stands in front of the contact service alone: a refused health check would take the replica out of the
//! mesh. tower's `ConcurrencyLimit` makes calls wait for a permit, which would be a queue without a limit.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{
    domain::Refusal,
    grpc::{Answered, call_end, status},
};

/// Permits for calls, shared by all services that the layer is put around.
#[derive(Clone, Debug)]
pub struct InFlightLayer(Arc<Semaphore>);

impl InFlightLayer {
    /// At most `calls` at a time.
    pub fn new(calls: usize) -> Self {
        Self(Arc::new(Semaphore::new(calls)))
    }
}

impl<S> Layer<S> for InFlightLayer {
    type Service = InFlight<S>;

    fn layer(&self, inner: S) -> InFlight<S> {
        InFlight { inner, permits: self.0.clone() }
    }
}

/// A service with a limit on its calls in progress.
#[derive(Clone, Debug)]
pub struct InFlight<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

impl<S, B> Service<Request<B>> for InFlight<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Permitted<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let end = call_end(request.headers(), request.extensions());
            return Either::Left(ready(Ok(status(&Refusal::Overloaded, end).into_http())));
        };
        Either::Right(Permitted { call: self.inner.call(request), permit })
    }
}

pin_project! {
    /// A call in progress, with the permit that it holds until it is dropped.
    #[derive(Debug)]
    pub struct Permitted<F> {
        #[pin]
        call: F,
        permit: OwnedSemaphorePermit,
    }
}

impl<F: Future> Future for Permitted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().call.poll(context)
    }
}
