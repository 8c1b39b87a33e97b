//! [`TraceLayer`]: a span for every call that is traced, and what is done for the call as part of it.
//!
//! Outermost, so that the span has the code the caller sees. Without a collector a call passes through as it is: nothing
//! is made or wrapped for it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::telemetry::{CallSpan, Traces};

/// Traces calls.
#[derive(Clone, Debug)]
pub struct TraceLayer(Option<Traces>);

impl TraceLayer {
    /// Makes spans for `traces`, if there are any.
    #[must_use]
    pub fn new(traces: Option<Traces>) -> Self {
        Self(traces)
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, traces: self.0.clone() }
    }
}

/// Services whose calls are traced.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
    traces: Option<Traces>,
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Tracing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A way of its own for each, so that the usual one moves nothing about.
        let Some(traces) = &self.traces else {
            return Tracing { answer: self.inner.call(request), span: None };
        };
        let span = traces.call(request.uri().path(), request.headers());
        let _part_of_call = span.as_ref().map(CallSpan::enter);
        let answer = self.inner.call(request);
        Tracing { answer, span }
    }
}

pin_project! {
    /// A call that has no answer yet.
    #[derive(Debug)]
    pub struct Tracing<F> {
        #[pin]
        answer: F,
        span: Option<CallSpan>,
    }
}

impl<F> Future for Tracing<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(span) = this.span else { return this.answer.poll(context) };
        let part_of_call = span.enter();
        let Ok(response) = ready!(this.answer.poll(context));
        drop(part_of_call);
        Poll::Ready(Ok(match this.span.take() {
            Some(span) => until_end(response, span),
            None => response,
        }))
    }
}

/// Ends `span` with the code, which an answer that is a status and nothing else has among its headers.
fn until_end(response: Response<Body>, span: CallSpan) -> Response<Body> {
    let code = code(response.headers());
    if code.is_some() {
        span.end(code);
        return response;
    }
    response.map(|body| Body::new(TracedBody { body, span: Some(span) }))
}

/// A body whose trailers tell the code, and whose messages may still have to be looked up.
struct TracedBody {
    body: Body,
    span: Option<CallSpan>,
}

impl http_body::Body for TracedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let part_of_call = self.span.as_ref().map(CallSpan::enter);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        drop(part_of_call);
        let end = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(code),
            Some(Err(status)) => Some(usize::try_from(i32::from(status.code())).ok()),
            None => Some(None),
        };
        if let (Some(code), Some(span)) = (end, end.and_then(|_| self.span.take())) {
            span.end(code);
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
