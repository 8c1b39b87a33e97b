//! [`OverloadLayer`]: how many calls are in progress over all connections; more are refused at once.
//!
//! In front of the contact service alone: a health check is never refused, since it would take the replica out.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{domain::LookupError, grpc::status};

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
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Either::Left(ready(Ok(status(&LookupError::Overloaded).into_http())));
        };
        let call = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let _place = place;
            call.await
        }))
    }
}
