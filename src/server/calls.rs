//! The way of a call through the server: the only place that knows the order of the layers around a call.
//!
//! Behind the last layer is the contact service. Calls of health and reflection leave this way at `route`, so
//! that a health check is never refused for a missing token or for too many calls in progress.

mod callers;
mod deadline;
mod discard;
mod end_streams;
mod guard;
mod in_flight;
mod memory;
mod message;
mod observe;
mod route;

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::{
    body::Body,
    service::{LayerExt, Routes},
};
use tower::{BoxError, Service, ServiceBuilder};

use self::{
    callers::CallersLayer, deadline::DeadlineLayer, discard::DiscardLayer, end_streams::EndStreamsLayer,
    guard::Guard, in_flight::InFlightLayer, message::MessageLayer, observe::ObserveLayer, route::Route,
};
pub use self::{
    callers::{Callers, Known, TokenHash},
    observe::ObservedBody,
};
use super::{Leaving, Settings};
use crate::{
    grpc::{Health, RequestMessage, reflection},
    telemetry::{CallMetrics, Traces},
};

/// Puts the layers around `contacts`, outermost first. Every call is counted into `metrics`, and traced where
/// there are `traces`; requests of health and reflection end when `leaving` announces the stop.
pub fn calls<S, B>(
    contacts: S,
    settings: &Settings,
    health: &Health,
    metrics: Arc<CallMetrics>,
    traces: Option<Traces>,
    leaving: &Leaving,
) -> impl Service<Request<B>, Response = Response<ObservedBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
+ use<S, B>
where
    S: Service<Request<RequestMessage>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let others = others(settings, health, leaving);
    ServiceBuilder::new()
        // Outermost, because any layer or service below may answer before its request has ended.
        .layer(DiscardLayer::default())
        // Around everything that chooses codes, so that it counts the code that the caller sees.
        .layer(ObserveLayer::new(metrics, traces))
        // Before the route, so that it holds for every path: a request that is not gRPC, or has too much
        // metadata, reaches no service, and a panic below ends one call alone. Inside the observer, so that
        // both are counted.
        .layer_fn(Guard::new)
        // Before the limits of the contact service. Calls of health and reflection go no further.
        .layer_fn(|inner| Route::new(inner, others.clone()))
        // First of the limits: an unknown caller must use neither memory nor a permit.
        .layer(CallersLayer::new(settings.callers.clone(), settings.token_owner))
        // Before the message is read, because the deadline also holds for a message that arrives slowly.
        .layer(DeadlineLayer::new(settings.deadline))
        // Before the permits: a call whose message has not arrived must not hold one.
        .layer(MessageLayer::default())
        // Last: a permit is held for the look-up alone.
        .layer(InFlightLayer::new(settings.in_flight))
        .service(contacts)
}

/// The services beside the contact service: health, and reflection where it is served.
fn others(settings: &Settings, health: &Health, leaving: &Leaving) -> Routes {
    let end_streams = EndStreamsLayer::new(leaving.clone());
    let mut others = Routes::new(end_streams.named_layer(health.service()));
    if settings.reflection {
        let (current, alpha) = reflection();
        others =
            others.add_service(end_streams.named_layer(current)).add_service(end_streams.named_layer(alpha));
    }
    others.prepare()
}
