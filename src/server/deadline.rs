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

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{
    domain::{Deadline, LookupError},
    grpc::status,
};

/// The longest a unary call may take, whatever its caller would allow.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// An answer leaves this much before the deadline: a tenth of the time, within these bounds. It must cover the way to
/// the caller and back, and the resolution of a timer.
const AHEAD_MIN: Duration = Duration::from_millis(2);
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Gives each call its [`Deadline`], as an extension of the request, and ends the call when it has passed.
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
        let end = Instant::now() + time.saturating_sub(ahead);
        request.extensions_mut().insert(Deadline::at(end));
        // Whoever looks up keeps to the deadline itself and may still have something stored to answer with. Only a call that
        // does not even get there, since its message is slow to come, ends here.
        Timed { call: self.inner.call(request), end: end + ahead / 2, timer: None }
    }
}

pin_project! {
    /// A call that ends at `end`.
    #[derive(Debug)]
    pub struct Timed<F> {
        #[pin]
        call: F,
        end: Instant,
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
        timer.as_mut().poll(context).map(|()| Ok(status(&LookupError::DeadlineExceeded).into_http()))
    }
}

/// `grpc-timeout` of the gRPC protocol: 1 to 8 digits and a unit. One that cannot be read counts as none.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("250u", Some(Duration::from_micros(250))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("1", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1s", None),
            ("1 S", None),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                http::HeaderValue::from_static(text),
            )]);
            assert_eq!(grpc_timeout(&headers), expected, "{text:?}");
        }
    }
}
