//! [`DeadlineLayer`]: until when a call is worth answering.
//!
//! `grpc-timeout` is read here and not by tonic, which answers an expiry with CANCELLED. We answer DEADLINE_EXCEEDED, and
//! a little before the caller's own clock runs out: after that nobody would read it.

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
    grpc::{grpc_timeout, status},
};

/// The longest a unary call may take, whatever its caller would allow.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// An answer leaves this much before the deadline: a tenth of the time, within these bounds. It must cover the way to
/// the caller and back, and the resolution of a timer.
const AHEAD_MIN: Duration = Duration::from_millis(2);
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Gives each call its [`CallTime`], as an extension of the request, and ends the call when it has passed.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    unstated: Duration,
}

impl DeadlineLayer {
    /// Calls that state no time-out get `unstated`.
    #[must_use]
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

type Answered = Result<Response<Body>, Infallible>;

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
        // Whoever looks up keeps to the deadline itself and may still have something stored to answer with. Only a call that
        // does not even get there, since its message is slow to come, ends here.
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
        // Set when the call has to wait, which a hit does not.
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
