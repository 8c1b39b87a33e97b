//! [`Route`]: whether a call is for the contact service, and for which of its methods.
//!
//! The methods of the contact service are found by comparing paths, the one with the most calls first.
//! tonic's router would add a tenth to the time of a cached answer, so it gets only the other calls.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::{body::Body, service::Routes};
use tower::{BoxError, Service};

use crate::grpc::ContactMethod;

/// Calls `contacts` for each [`ContactMethod`], and `others` for the rest.
#[derive(Clone, Debug)]
pub struct Route<S> {
    contacts: S,
    others: Routes,
}

/// A request body whose method is known.
#[derive(Debug)]
pub struct Routed<B> {
    /// The method that is called.
    pub method: ContactMethod,
    /// The body as it arrives.
    pub body: B,
}

impl<S> Route<S> {
    /// Puts the choice in front of both services.
    pub fn new(contacts: S, others: Routes) -> Self {
        Self { contacts, others }
    }
}

impl<S, B> Service<Request<B>> for Route<S>
where
    S: Service<Request<Routed<B>>, Response = Response<Body>, Error = Infallible>,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Routes as Service<Request<B>>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let Ok(()) = ready!(self.contacts.poll_ready(context));
        <Routes as Service<Request<B>>>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match ContactMethod::at(request.uri().path()) {
            Some(method) => Either::Left(self.contacts.call(request.map(|body| Routed { method, body }))),
            None => Either::Right(self.others.call(request)),
        }
    }
}
