//! [`OverloadLayer`]: how many calls are in progress over all connections; more are refused at once.
//!
//! In front of the contact service alone: a health check is never refused, since it would take the replica out.

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
    grpc::{call_end, status},
};

/// Places for calls, shared by all services it is put around.
#[derive(Clone, Debug)]
pub struct OverloadLayer(Arc<Semaphore>);

impl OverloadLayer {
    /// At most `calls` at a time.
    #[must_use]
    pub fn new(calls: usize) -> Self {
        Self(Arc::new(Semaphore::new(calls)))
    }
}

impl<S> Layer<S> for OverloadLayer {
    type Service = Overload<S>;

    fn layer(&self, inner: S) -> Overload<S> {
        Overload { inner, places: self.0.clone() }
    }
}

/// A service with a limit to its calls in progress.
#[derive(Clone, Debug)]
pub struct Overload<S> {
    inner: S,
    places: Arc<Semaphore>,
}

type Answered = Result<Response<Body>, Infallible>;

impl<S, B> Service<Request<B>> for Overload<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Placed<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let end = call_end(request.headers(), request.extensions());
            return Either::Left(ready(Ok(status(&Refusal::Overloaded, end).into_http())));
        };
        Either::Right(Placed { call: self.inner.call(request), place })
    }
}

pin_project! {
    /// A call in progress, in its place.
    #[derive(Debug)]
    pub struct Placed<F> {
        #[pin]
        call: F,
        place: OwnedSemaphorePermit,
    }
}

impl<F: Future> Future for Placed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().call.poll(context)
    }
}
