//! [`CountLayer`]: counts every call of every service, by method and code.
//!
//! Outermost, so that it sees the code the caller sees, whoever chose it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::telemetry::{CallInProgress, CallMetrics};

/// Counts calls.
#[derive(Clone, Debug)]
pub struct CountLayer {
    calls: Arc<CallMetrics>,
}

impl CountLayer {
    /// Counts into `calls`.
    #[must_use]
    pub fn new(calls: Arc<CallMetrics>) -> Self {
        Self { calls }
    }
}

impl<S> Layer<S> for CountLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.calls.clone() }
    }
}

/// Services whose calls are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    calls: Arc<CallMetrics>,
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.calls.begin(request.uri().path());
        Answering { answer: self.inner.call(request), call: Some(call) }
    }
}

pin_project! {
    /// A call that has no answer yet.
    #[derive(Debug)]
    pub struct Answering<F> {
        #[pin]
        answer: F,
        call: Option<CallInProgress>,
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.answer.poll(context));
        let call = this.call.take();
        // An answer that is a status and nothing else has it among its headers.
        let code = code(response.headers());
        let mut response = response.map(|body| Answer { body, call });
        if code.is_some() {
            response.body_mut().end(code);
        }
        Poll::Ready(Ok(response))
    }
}

/// A body whose trailers tell the code, and whose call ends with it.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    call: Option<CallInProgress>,
}

impl Answer {
    fn end(&mut self, code: Option<usize>) {
        if let Some(call) = self.call.take() {
            call.end(code);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.end(code(trailers));
                }
            }
            Some(Err(status)) => self.end(usize::try_from(i32::from(status.code())).ok()),
            None => self.end(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The number of the code; none when it is missing or cannot be read.
fn code(headers: &HeaderMap) -> Option<usize> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use http_body::Body as _;

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::telemetry::{Method, MethodKind, Metrics, MetricsForm};

    const PATH: &str = "/test.Service/Do";

    fn metrics() -> Metrics {
        let (service, name) = ("test.Service".to_owned(), "Do".to_owned());
        Metrics::new(&[Method { service, name, kind: MethodKind::Unary }])
    }

    fn labels(method: &str, service: &str) -> String {
        format!(r#"grpc_type="unary",grpc_service="{service}",grpc_method="{method}""#)
    }

    #[track_caller]
    fn assert_counted(metrics: &Metrics, labels: &str, code: &str) {
        let text = metrics.text(MetricsForm::Prometheus);
        let handled = format!("grpc_server_handled_total{{{labels},grpc_code=\"{code}\"}} 1\n");
        assert!(text.contains(&handled), "no {handled} in {text}");
        assert!(text.contains(&format!("grpc_server_started_total{{{labels}}} 1\n")), "{text}");
        assert!(text.contains(&format!("grpc_server_handling_seconds_count{{{labels}}} 1\n")), "{text}");
    }

    /// A body of `frames`, which hangs after them unless it ends.
    async fn call(metrics: &Metrics, path: &'static str, response: Response<Body>) -> Answer {
        let mut response = Some(response);
        let service = service_fn(move |_: Request<()>| ready(Ok(response.take().unwrap())));
        let service = CountLayer::new(metrics.calls.clone()).layer(service);
        let request = Request::builder().uri(path).body(()).unwrap();
        service.oneshot(request).await.unwrap().into_body()
    }

    async fn read(mut body: Answer) {
        while std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_some() {}
    }

    struct Frames(Vec<Frame<Bytes>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop().map(Ok))
        }
    }

    fn status(code: &'static str) -> HeaderMap {
        let name = http::HeaderName::from_static("grpc-status");
        HeaderMap::from_iter([(name, http::HeaderValue::from_static(code))])
    }

    fn streamed(trailers: Option<&'static str>) -> Response<Body> {
        let trailers = trailers.map(|code| Frame::trailers(status(code)));
        let data = Frame::data(Bytes::from_static(b"data"));
        Response::new(Body::new(Frames(trailers.into_iter().chain([data]).collect())))
    }

    #[tokio::test]
    async fn the_code_is_that_of_the_trailers() {
        for (trailers, expected) in
            [(Some("0"), "OK"), (Some("5"), "NotFound"), (Some("?"), "Unknown"), (None, "Unknown")]
        {
            let metrics = metrics();
            read(call(&metrics, PATH, streamed(trailers)).await).await;
            assert_counted(&metrics, &labels("Do", "test.Service"), expected);
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_body_has_its_code_in_the_headers() {
        let metrics = metrics();
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = status("8");
        drop(call(&metrics, PATH, response).await);
        assert_counted(&metrics, &labels("Do", "test.Service"), "ResourceExhausted");
    }

    #[tokio::test]
    async fn a_caller_that_leaves_before_the_end_has_canceled() {
        let metrics = metrics();
        drop(call(&metrics, PATH, streamed(Some("0"))).await);
        assert_counted(&metrics, &labels("Do", "test.Service"), "Canceled");
    }

    #[tokio::test]
    async fn a_caller_that_leaves_before_the_answer_has_canceled() {
        let metrics = metrics();
        let service = service_fn(|_: Request<()>| std::future::pending());
        let mut service = CountLayer::new(metrics.calls.clone()).layer(service);
        drop(service.call(Request::builder().uri(PATH).body(()).unwrap()));
        assert_counted(&metrics, &labels("Do", "test.Service"), "Canceled");
    }

    #[tokio::test]
    async fn paths_that_callers_make_up_share_one_label() {
        let metrics = metrics();
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = status("12");
        drop(call(&metrics, "/made.Up/Path", response).await);
        assert_counted(&metrics, &labels("unknown", "unknown"), "Unimplemented");
        assert!(!metrics.text(MetricsForm::Prometheus).contains("made"));
    }
}
