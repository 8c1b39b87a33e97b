//! [`Paths`]: which service a call is for.
//!
//! The method that nearly all calls are for is told by one comparison. The others are left to tonic's router, which would
//! cost a cached answer a tenth of what it takes.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

/// `service` gets the calls of one method, `others` get the rest.
#[derive(Clone, Debug)]
pub struct Paths<S, O> {
    /// Where HTTP/2 finds the method.
    pub path: &'static str,
    /// What answers it.
    pub service: S,
    /// A router.
    pub others: O,
}

impl<S, O, B> Service<Request<B>> for Paths<S, O>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    O: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, O::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let Ok(()) = ready!(self.service.poll_ready(context));
        self.others.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() == self.path {
            Either::Left(self.service.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}
