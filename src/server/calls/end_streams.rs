//! [`EndStreamsLayer`]: ends the request stream of each call when the server stops.
//!
//! A service that answers as long as requests come, such as reflection, would otherwise hold up the drain.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::server::drain::{Leaving, announced};

/// Gives services request streams that end when [`Leaving`] announces the stop.
#[derive(Clone, Debug)]
pub struct EndStreamsLayer(Leaving);

impl EndStreamsLayer {
    /// Streams end with the announcement of `leaving`.
    pub fn new(leaving: Leaving) -> Self {
        Self(leaving)
    }
}

impl<S> Layer<S> for EndStreamsLayer {
    type Service = EndStreams<S>;

    fn layer(&self, inner: S) -> EndStreams<S> {
        EndStreams { inner, leaving: self.0.clone() }
    }
}

/// A service whose request streams end with the server.
#[derive(Clone, Debug)]
pub struct EndStreams<S> {
    inner: S,
    leaving: Leaving,
}

impl<S> Service<Request<Body>> for EndStreams<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let mut leaving = self.leaving.subscribe();
        let end = Box::pin(async move { announced(&mut leaving).await });
        self.inner.call(request.map(|body| Body::new(UntilEnd { body, end })))
    }
}

/// A request body that ends early once `end` resolves.
struct UntilEnd {
    body: Body,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for UntilEnd {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        match this.end.poll_unpin(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut this.body).poll_frame(context),
        }
    }
}
