//! [`EndStreamsLayer`]: ends the request stream of each call when the server stops, or when nothing arrives
//! on it.
//!
//! A service that answers as long as requests come, such as reflection, would otherwise hold up the drain. A
//! call whose first message does not come would hold its memory for as long as its client likes: health and
//! reflection have no deadline of their own, and need no token.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::server::drain::{Leaving, announced};

/// Time for the first message of a call, which a client sends together with the call.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Wraps request streams, so that they end when [`Leaving`] announces the stop, or when no message arrives in
/// time.
#[derive(Clone, Debug)]
pub struct EndStreamsLayer(Leaving);

impl EndStreamsLayer {
    /// Streams end when `leaving` announces the stop.
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
        let stop = Box::pin(async move { announced(&mut leaving).await });
        let too_late = Some(Box::pin(sleep(FIRST_MESSAGE_TIMEOUT)));
        self.inner.call(request.map(|body| Body::new(UntilEnd { body, stop, too_late })))
    }
}

/// A request body that ends early once `stop` resolves.
struct UntilEnd {
    body: Body,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The time limit for the first frame; `None` once that has arrived.
    too_late: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for UntilEnd {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        let is_over = this.stop.poll_unpin(context).is_ready()
            || this.too_late.as_mut().is_some_and(|too_late| too_late.poll_unpin(context).is_ready());
        if is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        this.too_late = None;
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, channel::Channel};
    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// When the server stops, in the tests.
    const STOP: Duration = Duration::from_secs(60);

    /// How long a request lasts whose client sends a message after `pause`, and then neither sends nor
    /// leaves.
    async fn lasts(pause: Duration) -> Duration {
        let leaving = Leaving::new();
        let service =
            EndStreamsLayer::new(leaving.clone()).layer(service_fn(|request: Request<Body>| async {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok(Response::new(Body::empty()))
            }));
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let begin = Instant::now();
        let client = async {
            sleep(pause).await;
            let _ = sender.send_data(Bytes::from_static(b"message")).await;
            sleep(STOP.saturating_sub(pause)).await;
            leaving.announce();
        };
        let call = async {
            service.oneshot(Request::new(Body::new(body))).await.unwrap();
            begin.elapsed()
        };
        tokio::join!(call, client).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_with_the_server_or_when_no_message_comes_in_time() {
        assert_eq!(lasts(Duration::ZERO).await, STOP);
        assert_eq!(lasts(FIRST_MESSAGE_TIMEOUT / 2).await, STOP);
        assert_eq!(lasts(FIRST_MESSAGE_TIMEOUT * 2).await, FIRST_MESSAGE_TIMEOUT);
    }
}
