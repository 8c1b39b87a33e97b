//! [`ObserveLayer`]: counts every call of every service by method and code, and traces it where traces are
//! exported.
//!
//! A call ends with its response body, because the code of a streamed response is in its trailers. Messages
//! are counted as their last byte passes, in both directions.

mod messages;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use self::messages::Messages;
use crate::{
    grpc::Answered,
    telemetry::{CallInProgress, CallMetrics, CallSpan, ReceivedMessages, Traces, code_of},
};

/// Counts and traces calls.
#[derive(Clone, Debug)]
pub struct ObserveLayer {
    calls: Arc<CallMetrics>,
    traces: Option<Traces>,
}

impl ObserveLayer {
    /// Counts into `calls`, and makes spans for `traces`.
    pub fn new(calls: Arc<CallMetrics>, traces: Option<Traces>) -> Self {
        Self { calls, traces }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, by: self.clone() }
    }
}

/// Services whose calls are observed.
#[derive(Clone, Debug)]
pub struct Observed<S> {
    inner: S,
    by: ObserveLayer,
}

/// The parts of a call's telemetry that are completed when the call ends.
#[derive(Debug)]
struct Observation {
    count: CallInProgress,
    span: Option<CallSpan>,
}

impl Observation {
    /// Ends the call with its code; `None` when the response has no code that can be read. A call that is
    /// dropped before that counts as cancelled.
    fn end(self, code: Option<Code>) {
        self.count.end(code);
        if let Some(span) = self.span {
            span.end(code);
        }
    }
}

/// Runs `work` within the span of the call.
fn part_of<T>(call: Option<&Observation>, work: impl FnOnce() -> T) -> T {
    let _entered = call.and_then(|call| call.span.as_ref()).map(CallSpan::enter);
    work()
}

impl<S, B> Service<Request<B>> for Observed<S>
where
    S: Service<Request<ObservedRequest<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = ObservedCall<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let span = self.by.traces.as_ref().and_then(|traces| traces.call(path, request.headers()));
        let count = self.by.calls.begin(path);
        let received = count.received();
        let request = request.map(|body| ObservedRequest { body, messages: Messages::default(), received });
        let call = Some(Observation { count, span });
        ObservedCall { response: part_of(call.as_ref(), || self.inner.call(request)), call }
    }
}

/// A request body whose messages are counted.
#[derive(Debug)]
pub struct ObservedRequest<B> {
    body: B,
    messages: Messages,
    received: ReceivedMessages,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for ObservedRequest<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.received.count(this.messages.pass(data));
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

pin_project! {
    /// A call that has no response yet.
    #[derive(Debug)]
    pub struct ObservedCall<F> {
        #[pin]
        response: F,
        call: Option<Observation>,
    }
}

impl<F> Future for ObservedCall<F>
where
    F: Future<Output = Answered>,
{
    type Output = Result<Response<ObservedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(part_of(this.call.as_ref(), || this.response.poll(context)));
        let call = this.call.take();
        let mut response = response.map(|body| ObservedBody { body, messages: Messages::default(), call });
        // A response without a body has its status in the headers.
        if response.body().is_end_stream() {
            let code = code_of(response.headers());
            response.body_mut().end(code);
        }
        Poll::Ready(Ok(response))
    }
}

/// A response body. Its trailers hold the code of the call. The call ends with the body.
#[derive(Debug)]
pub struct ObservedBody {
    body: Body,
    messages: Messages,
    call: Option<Observation>,
}

impl ObservedBody {
    fn end(&mut self, code: Option<Code>) {
        if let Some(call) = self.call.take() {
            call.end(code);
        }
    }
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        // A streamed body may do work for its messages, such as a look-up, and that work belongs to the span.
        let frame = ready!(part_of(this.call.as_ref(), || Pin::new(&mut this.body).poll_frame(context)));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref()
                    && let Some(call) = &this.call
                {
                    call.count.sent(this.messages.pass(data));
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.end(code_of(trailers));
                }
            }
            Some(Err(status)) => self.end(Some(status.code())),
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

#[cfg(test)]
mod tests {
    use std::future::ready;

    use http::HeaderMap;
    use http_body_util::{BodyExt, Full};
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

    /// The observed body of `response`, for a call of `path`.
    async fn call(metrics: &Metrics, path: &'static str, response: Response<Body>) -> ObservedBody {
        let mut response = Some(response);
        let service =
            service_fn(move |_: Request<ObservedRequest<Body>>| ready(Ok(response.take().unwrap())));
        let service = ObserveLayer::new(metrics.calls.clone(), None).layer(service);
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        service.oneshot(request).await.unwrap().into_body()
    }

    async fn read(mut body: ObservedBody) {
        while std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_some() {}
    }

    struct Frames(Vec<Frame<Bytes>>);

    impl HttpBody for Frames {
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
        let service = service_fn(|_: Request<ObservedRequest<Body>>| std::future::pending());
        let mut service = ObserveLayer::new(metrics.calls.clone(), None).layer(service);
        drop(service.call(Request::builder().uri(PATH).body(Body::empty()).unwrap()));
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

    #[tokio::test]
    async fn messages_are_counted_and_not_frames() {
        let metrics = metrics();
        let service = service_fn(|request: Request<ObservedRequest<Body>>| async {
            let received = request.into_body().collect().await.unwrap().to_bytes();
            let [first, second] = [&received[..3], &received[3..]].map(Bytes::copy_from_slice);
            let trailers = Frame::trailers(status("0"));
            Ok(Response::new(Body::new(Frames(vec![trailers, Frame::data(second), Frame::data(first)]))))
        });
        let service = ObserveLayer::new(metrics.calls.clone(), None).layer(service);
        // Two messages in one frame, and a half that has no end.
        let request = Body::new(Full::from("\0\0\0\0\x01a\0\0\0\0\0\0\0"));
        let Ok(response) = service.oneshot(Request::builder().uri(PATH).body(request).unwrap()).await;
        read(response.into_body()).await;
        let (text, labels) = (metrics.text(MetricsForm::Prometheus), labels("Do", "test.Service"));
        for name in ["grpc_server_msg_received_total", "grpc_server_msg_sent_total"] {
            assert!(text.contains(&format!("{name}{{{labels}}} 2\n")), "no {name} in {text}");
        }
    }
}
