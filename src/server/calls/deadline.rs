//! [`DeadlineLayer`]: the deadline of each call.
//!
//! `grpc-timeout` is read here and not by tonic, which answers an expired deadline with CANCELLED. This
//! server answers DEADLINE_EXCEEDED, and does so shortly before the caller's own timer expires, because a
//! caller does not read an answer after that.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{
    domain::{CallEnd, CallTime, Deadline, Refusal},
    grpc::{Answered, grpc_timeout, status},
};

/// Maximum duration of a unary call, even if its `grpc-timeout` is longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// How long before the caller's own deadline the look-up ends: a tenth of the time-out, within these bounds.
/// It must cover a round trip to the caller and the resolution of a timer.
const AHEAD_MIN: Duration = Duration::from_millis(2);
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Gives each call its [`CallTime`], as an extension of the request, and ends the call at its deadline.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    unstated: Duration,
}

impl DeadlineLayer {
    /// A call without `grpc-timeout` gets `unstated`.
    pub fn new(unstated: Duration) -> Self {
        Self { unstated }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadlines<S>;

    fn layer(&self, inner: S) -> Deadlines<S> {
        Deadlines { inner, unstated: self.unstated }
    }
}

/// A service of unary calls, each with a deadline.
#[derive(Clone, Debug)]
pub struct Deadlines<S> {
    inner: S,
    unstated: Duration,
}

impl<S, B> Service<Request<B>> for Deadlines<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let stated = grpc_timeout(request.headers());
        let time = stated.unwrap_or(self.unstated).min(TIMEOUT_MAX);
        let ahead = (time / 10).clamp(AHEAD_MIN, AHEAD_MAX);
        let start = Instant::now();
        let end = start + time.saturating_sub(ahead);
        let stated = CallEnd::of(start, stated);
        request.extensions_mut().insert(CallTime { deadline: Deadline::at(end), end: stated });
        // A look-up observes the deadline itself, and may then still answer from the cache. The timer here
        // expires half of the margin later. It is for calls whose look-up has not started, because their
        // message arrives slowly.
        Timed { call: self.inner.call(request), end: end + ahead / 2, stated, timer: None }
    }
}

pin_project! {
    /// A call that ends at `end`.
    #[derive(Debug)]
    pub struct Timed<F> {
        #[pin]
        call: F,
        end: Instant,
        stated: CallEnd,
        // The timer is set only when the call has to wait, because a cache hit does not wait.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = Answered>> Future for Timed<F> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        if let Poll::Ready(answered) = this.call.poll(context) {
            return Poll::Ready(answered);
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(*this.end)));
        let exceeded = |()| Ok(status(&Refusal::DeadlineExceeded, *this.stated).into_http());
        timer.as_mut().poll(context).map(exceeded)
    }
}
