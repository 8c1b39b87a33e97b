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

use super::route::Routed;
use crate::{
    domain::{CallEnd, CallTime, Deadline, Refusal},
    grpc::{Answered, grpc_timeout, status},
};

/// How long before the caller's own deadline the look-up ends: a tenth of the time-out, within these bounds.
/// It must cover a round trip to the caller and the resolution of a timer.
const AHEAD_MIN: Duration = Duration::from_millis(2);
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Gives each call its [`CallTime`], as an extension of the request, and ends the call at its deadline. The
/// method states the longest time, and may state the time of a call that states none. A stream ends itself
/// once its response has begun: its status is in the trailers.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    unstated: Duration,
}

impl DeadlineLayer {
    /// A call without `grpc-timeout` gets `unstated`, unless its method states another time.
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

/// A service whose calls each have a deadline.
#[derive(Clone, Debug)]
pub struct Deadlines<S> {
    inner: S,
    unstated: Duration,
}

impl<S, B> Service<Request<Routed<B>>> for Deadlines<S>
where
    S: Service<Request<Routed<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Routed<B>>) -> Self::Future {
        let method = request.body().method;
        let stated = grpc_timeout(request.headers());
        let unstated = || method.time_unstated().unwrap_or(self.unstated);
        let time = stated.unwrap_or_else(unstated).min(method.time_max());
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
    /// A call whose response begins before `end`. The response of a unary call is complete at that time.
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

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use tonic::{Code, Status};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::grpc::ContactMethod;

    const UNSTATED: Duration = Duration::from_secs(3);

    /// The code of a call that is never answered, the time after which it ends, and the time until the
    /// deadline in its request.
    async fn ended(method: ContactMethod, stated: Option<&str>) -> (Code, Duration, Duration) {
        let start = Instant::now();
        let deadline = Mutex::new(None);
        let service = DeadlineLayer::new(UNSTATED).layer(service_fn(|request: Request<Routed<()>>| {
            let time: &CallTime = request.extensions().get().unwrap();
            *deadline.lock().unwrap() = Some(time.deadline.latest().unwrap() - start);
            pending()
        }));
        let mut request = Request::builder();
        if let Some(stated) = stated {
            request = request.header("grpc-timeout", stated);
        }
        let call = service.oneshot(request.body(Routed { method, body: () }).unwrap());
        let Ok(response) = call.await;
        let code = Status::from_header_map(response.headers()).unwrap().code();
        let deadline = deadline.lock().unwrap().unwrap();
        (code, start.elapsed(), deadline)
    }

    #[tokio::test(start_paused = true)]
    async fn each_method_has_a_longest_and_a_default_time() {
        use ContactMethod::{BatchGetProfilePictures, GetProfilePicture, StreamProfilePictures};
        const HOUR: u64 = 60 * 60;
        for (method, stated, seconds) in [
            (GetProfilePicture, None, 3),
            (GetProfilePicture, Some("20S"), 20),
            (GetProfilePicture, Some("1H"), 30),
            (BatchGetProfilePictures, None, 30),
            (BatchGetProfilePictures, Some("1S"), 1),
            (BatchGetProfilePictures, Some("1H"), 30),
            (StreamProfilePictures, None, 2 * HOUR),
            (StreamProfilePictures, Some("1S"), 1),
            (StreamProfilePictures, Some("1H"), HOUR),
            (StreamProfilePictures, Some("9H"), 2 * HOUR),
        ] {
            let (code, ended, deadline) = ended(method, stated).await;
            assert_eq!(code, Code::DeadlineExceeded);
            let end = Duration::from_secs(seconds);
            // Both are shortly before the end of the call, the deadline of the look-up first.
            assert!(deadline < ended && ended < end, "{method:?} {stated:?}: {deadline:?} {ended:?}");
            assert!(end <= deadline + AHEAD_MAX, "{method:?} {stated:?}: {deadline:?}");
        }
    }
}
