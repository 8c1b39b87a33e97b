//! [`Edge`]: what holds for every request before it reaches a service: it speaks gRPC, and a panic ends one call alone.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{CatchUnwind, Either, Map, Ready, ready},
};
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::body::Body;
use tower::Service;
use tracing::error;

use crate::{
    domain::{CallEnd, LookupError},
    grpc::status,
};

/// A service behind the edge.
#[derive(Clone, Debug)]
pub struct Edge<S>(S);

impl<S> Edge<S> {
    /// Puts the edge in front of `inner`.
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

type Answered = Result<Response<Body>, Infallible>;
type Caught<F> = CatchUnwind<AssertUnwindSafe<F>>;
/// Either an answer or what a panic said.
type Outcome = Result<Answered, Box<dyn Any + Send>>;

impl<S, B> Service<Request<B>> for Edge<S>
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
        if !speaks_grpc(&request) {
            // The gRPC protocol over HTTP/2, "Requests": anything else is answered in terms of HTTP.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Either::Left(ready(Ok(response)));
        }
        // A service may do much of its work before it returns a future. Its panic would end the connection.
        match catch_unwind(AssertUnwindSafe(|| self.0.call(request))) {
            Ok(call) => Either::Right(AssertUnwindSafe(call).catch_unwind().map(answered)),
            Err(panic) => Either::Left(ready(answered(Err(panic)))),
        }
    }
}

fn answered(outcome: Outcome) -> Answered {
    outcome.unwrap_or_else(|_| {
        // Where and why is in the panic's own line.
        error!("a call panicked");
        // The request is gone, and with it what it states; a defect tells no wait that would have to fit.
        Ok(status(&LookupError::Internal, CallEnd::UNSTATED).into_http())
    })
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
    use tonic::{Code, Status};
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn status_of<F>(content_type: &str, service: fn() -> F) -> (StatusCode, Option<Code>)
    where
        F: Future<Output = Response<Body>>,
    {
        let edge = Edge::new(service_fn(move |_: Request<Body>| service().map(Ok)));
        let request = Request::builder().header(CONTENT_TYPE, content_type).body(Body::empty()).unwrap();
        let response = edge.oneshot(request).await.unwrap();
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
    async fn a_panic_is_an_internal_error_of_one_call() {
        let (_, code) = status_of("application/grpc", || async { panic!("on purpose") }).await;
        assert_eq!(code, Some(Code::Internal));
        let before_the_future: fn() -> Ready<Response<Body>> = || panic!("on purpose");
        let (_, code) = status_of("application/grpc", before_the_future).await;
        assert_eq!(code, Some(Code::Internal));
    }
}
