//! The end of connections and of streams: what is left when the server stops.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{debug, warn};

/// Tells connections and streams that the server is leaving.
#[derive(Clone, Debug)]
pub struct Leaving(watch::Sender<bool>);

impl Leaving {
    /// Nobody is told yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(super) fn listen(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    pub(super) fn tell(&self) {
        self.0.send_replace(true);
    }
}

impl Default for Leaving {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends the request stream of each call when the server leaves. A service that answers as long as it is asked, such as
/// reflection, would hold up the drain otherwise.
impl<S> Layer<S> for Leaving {
    type Service = EndStreams<S>;

    fn layer(&self, inner: S) -> EndStreams<S> {
        EndStreams { inner, leaving: self.clone() }
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
        let mut leaving = self.leaving.listen();
        let end = Box::pin(async move {
            let _ = leaving.wait_for(|leaving| *leaving).await;
        });
        self.inner.call(request.map(|body| Body::new(UntilEnd { body, end })))
    }
}

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

/// Waits for the calls in flight, at most `limit`; whatever is left after that is cut.
pub(super) async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    debug!(connections = connections.len(), "finishing calls in flight");
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(limit, finished).await.is_err() {
        warn!(connections = connections.len(), "cut connections that did not finish");
    }
}
