//! [`Guard`]: the checks for every request, whatever its path: it is a gRPC call, and its metadata has a
//! bounded size. A panic in a layer behind the guard, or in the body of a stream, ends only its own call,
//! with a status.
//!
//! tower-http's `CatchPanicLayer` is not used: it boxes the body of each response, which is an allocation for
//! each hit.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{CatchUnwind, Either, Map, Ready, ready},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::Service;
use tracing::error;

use crate::{
    domain::{CallEnd, Refusal},
    grpc::{Answered, OwnPace, status},
};

/// Maximum size of all metadata of a call, counted as in RFC 9113, section 6.5.2. A call with more is
/// refused.
const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are counted for each field in addition to its name and its value (RFC 9113, section 6.5.2).
const FIELD_BYTES: usize = 32;

/// A service that gets nothing but gRPC calls.
#[derive(Clone, Debug)]
pub struct Guard<S>(S);

impl<S> Guard<S> {
    /// Puts the checks in front of `inner`.
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

type Caught<F> = CatchUnwind<AssertUnwindSafe<F>>;
/// Either a response or the payload of a panic.
type Outcome = Result<Answered, Box<dyn Any + Send>>;

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Map<Caught<S::Future>, fn(Outcome) -> Answered>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(refusal) = refusal(&request) {
            return Either::Left(ready(Ok(refusal)));
        }
        // A service may do much of its work before it returns a future. A panic there would end the
        // connection.
        match catch_unwind(AssertUnwindSafe(|| self.0.call(request))) {
            Ok(call) => Either::Right(AssertUnwindSafe(call).catch_unwind().map(answered)),
            Err(panic) => Either::Left(ready(answered(Err(panic)))),
        }
    }
}

fn answered(outcome: Outcome) -> Answered {
    outcome.unwrap_or_else(|_| Ok(panicked().into_http())).map(|response| {
        // Streams are marked. The body of another response only holds bytes, and would pay for the guard.
        let is_stream = response.extensions().get::<OwnPace>().is_some();
        if is_stream { response.map(|body| Body::new(GuardedBody(Some(body)))) } else { response }
    })
}

/// The status of a call that panicked.
fn panicked() -> Status {
    // The panic hook has logged where it happened.
    error!("a call panicked");
    // The panic has dropped the request and its time-out. The status does not need the time-out, because it
    // carries no wait.
    status(&Refusal::Internal, CallEnd::UNSTATED)
}

/// The body of a stream; `None` once it has panicked.
struct GuardedBody(Option<Body>);

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = &mut self.get_mut().0;
        let Some(running) = body else { return Poll::Ready(None) };
        catch_unwind(AssertUnwindSafe(|| Pin::new(running).poll_frame(context))).unwrap_or_else(|_| {
            *body = None;
            let mut trailers = HeaderMap::new();
            let written = panicked().add_header(&mut trailers);
            Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

/// The response to a request that is refused here; `None` for any other. A request that is not a gRPC call
/// ("Requests" in the protocol over HTTP/2) gets an HTTP status.
fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let mut response = in_http(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    if !speaks_grpc(request) {
        return Some(in_http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let is_too_large = metadata_bytes(request) > METADATA_BYTES_MAX;
    // The time-out of the call does not matter here: the pushback of this error is always -1.
    is_too_large.then(|| status(&Refusal::MetadataTooLarge, CallEnd::UNSTATED).into_http())
}

fn in_http(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The size of the metadata, including the path and the host, because the client chooses their length, too.
fn metadata_bytes<B>(request: &Request<B>) -> usize {
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| FIELD_BYTES + name.as_str().len() + value.len());
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let host = uri.authority().map_or(0, |host| host.as_str().len());
    path + host + fields.sum::<usize>()
}

fn speaks_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    content_type.is_some_and(|text| match text.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest, [] | [b'+' | b';', ..]),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::grpc::GET_PROFILE_PICTURE;

    async fn status_of<F>(content_type: &str, service: fn() -> F) -> (StatusCode, Option<Code>)
    where
        F: Future<Output = Response<Body>>,
    {
        let guard = Guard::new(service_fn(move |_: Request<Body>| service().map(Ok)));
        let request = Request::post("/").header(CONTENT_TYPE, content_type).body(Body::empty()).unwrap();
        let response = guard.oneshot(request).await.unwrap();
        (response.status(), Status::from_header_map(response.headers()).map(|status| status.code()))
    }

    #[tokio::test]
    async fn only_grpc_gets_in() {
        for (content_type, expected) in [
            ("application/grpc", StatusCode::OK),
            ("application/grpc+proto", StatusCode::OK),
            ("application/grpc;v=1", StatusCode::OK),
            ("application/grpc-web", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("application/json", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ] {
            let (status, _) = status_of(content_type, || ready(Response::new(Body::empty()))).await;
            assert_eq!(status, expected, "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn only_post_is_a_call() {
        for (method, expected) in [
            (Method::POST, StatusCode::OK),
            (Method::GET, StatusCode::METHOD_NOT_ALLOWED),
            (Method::PUT, StatusCode::METHOD_NOT_ALLOWED),
            (Method::OPTIONS, StatusCode::METHOD_NOT_ALLOWED),
            (Method::from_bytes(b"post").unwrap(), StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let guard = Guard::new(service_fn(|_: Request<Body>| async { Ok(Response::new(Body::empty())) }));
            let request = Request::builder().method(&method).header(CONTENT_TYPE, "application/grpc");
            let response = guard.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), expected, "{method}");
            let allowed = response.headers().get(ALLOW).map(HeaderValue::as_bytes);
            assert_eq!(allowed.is_some(), expected == StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert!(allowed.is_none_or(|allowed| allowed == b"POST"), "{method}");
        }
    }

    #[test]
    fn metadata_counts_names_values_and_32_bytes_for_each_field() {
        let request =
            Request::post(format!("http://localhost{GET_PROFILE_PICTURE}")).header("te", "trailers");
        let bytes = metadata_bytes(&request.header("x-many", "1").header("x-many", "22").body(()).unwrap());
        assert_eq!(bytes, GET_PROFILE_PICTURE.len() + "localhost".len() + (32 + 10) + (32 + 7) + (32 + 8));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_of_one_call() {
        let (_, code) = status_of("application/grpc", || async { panic!("on purpose") }).await;
        assert_eq!(code, Some(Code::Internal));
        let before_the_future: fn() -> Ready<Response<Body>> = || panic!("on purpose");
        let (_, code) = status_of("application/grpc", before_the_future).await;
        assert_eq!(code, Some(Code::Internal));
    }

    #[tokio::test]
    async fn a_panic_in_the_body_of_a_stream_is_in_its_trailers() {
        let guard = Guard::new(service_fn(|_: Request<Body>| async {
            let frames = stream::iter(["1", "2"]).map(|text| {
                assert_ne!(text, "2", "on purpose");
                Ok::<_, Status>(Frame::data(Bytes::from_static(text.as_bytes())))
            });
            let mut response = Response::new(Body::new(StreamBody::new(frames)));
            response.extensions_mut().insert(OwnPace::default());
            Ok(response)
        }));
        let request = Request::post("/").header(CONTENT_TYPE, "application/grpc").body(Body::empty());
        let Ok(response) = guard.oneshot(request.unwrap()).await;
        let body = response.into_body().collect().await.unwrap();
        let status = Status::from_header_map(body.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(body.to_bytes(), "1");
    }
}
