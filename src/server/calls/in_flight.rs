//! [`InFlightLayer`]: a limit on the calls in progress over all connections; a further call is refused at
//! once.
//!
//! A unary call is in progress until its response is complete, which is before its body is sent. A stream is
//! in progress until its body ends (rule 44).
//!
//! It stands in front of the contact service alone: a refused health check would take the replica out of the
//! mesh. tower's `ConcurrencyLimit` makes calls wait for a permit, which would be a queue without a limit.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    domain::Refusal,
    grpc::{Answered, RequestMessage, call_end, status},
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

impl<S> Service<Request<RequestMessage>> for InFlight<S>
where
    S: Service<Request<RequestMessage>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Permitted<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestMessage>) -> Self::Future {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let end = call_end(request.headers(), request.extensions());
            return Either::Left(ready(Ok(status(&Refusal::Overloaded, end).into_http())));
        };
        let is_stream = request.body().method.is_stream();
        Either::Right(Permitted { call: self.inner.call(request), permit: Some(permit), is_stream })
    }
}

pin_project! {
    /// A call in progress, with the permit that it holds until it is dropped.
    #[derive(Debug)]
    pub struct Permitted<F> {
        #[pin]
        call: F,
        permit: Option<OwnedSemaphorePermit>,
        is_stream: bool,
    }
}

impl<F: Future<Output = Answered>> Future for Permitted<F> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        let answered = this.call.poll(context);
        if *this.is_stream {
            let hold = |body| Body::new(PermittedBody { body, _permit: this.permit.take() });
            return answered.map_ok(|response| response.map(hold));
        }
        answered
    }
}

/// The body of a stream, with the permit that it holds until it is dropped.
struct PermittedBody {
    body: Body,
    _permit: Option<OwnedSemaphorePermit>,
}

impl HttpBody for PermittedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::grpc::ContactMethod;

    #[tokio::test]
    async fn a_stream_holds_its_permit_until_its_body_ends() {
        let layer = InFlightLayer::new(1);
        for (method, held) in [
            (ContactMethod::GetProfilePicture, 0),
            (ContactMethod::BatchGetProfilePictures, 0),
            (ContactMethod::StreamProfilePictures, 1),
        ] {
            let service = layer.layer(service_fn(|_| async {
                assert_eq!(layer.0.available_permits(), 0);
                Ok(Response::new(Body::new(Full::from("1"))))
            }));
            let request = Request::new(RequestMessage { method, bytes: Bytes::new() });
            let Ok(response) = service.oneshot(request).await;
            assert_eq!(layer.0.available_permits(), 1 - held, "{method:?}");
            drop(response);
            assert_eq!(layer.0.available_permits(), 1, "{method:?}");
        }
    }
}
