//! The order of the layers around a call. No other file decides this order.
//!
//! Behind the last layer is the contact service. `route` passes calls of health and reflection to their own
//! services, so that a health check is never refused for a missing token or for too many calls in progress.

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

/// Puts the layers around `contacts`, outermost first. Every call is counted in `metrics`, and traced if
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
        // `discard` is outermost, because any layer or service below may answer before its request has ended.
        .layer(DiscardLayer::default())
        // `observe` is around everything that chooses codes, so that it counts the code that the caller sees.
        .layer(ObserveLayer::new(metrics, traces))
        // `guard` is before the route, so that it holds for every path: a request that is not gRPC, or has
        // too much metadata, reaches no service, and a panic in a layer below ends only its own call. It is
        // inside `observe`, so that refusals and panics are counted.
        .layer_fn(Guard::new)
        // `route` is before the limits of the contact service, because those limits do not hold for health
        // and reflection.
        .layer_fn(|inner| Route::new(inner, others.clone()))
        // `callers` is the first of the limits: an unknown caller must use neither memory nor a permit.
        .layer(CallersLayer::new(settings.callers.clone(), settings.token_owner))
        // `deadline` is before the message is read, because the deadline also holds for a message that
        // arrives slowly.
        .layer(DeadlineLayer::new(settings.deadline))
        // `message` is before the permits: a call whose message has not arrived must not hold one.
        .layer(MessageLayer::default())
        // `in_flight` is last, so that a permit is held only during the look-up.
        .layer(InFlightLayer::new(settings.in_flight))
        .service(contacts)
}

/// The other services: health, and reflection if the settings enable it.
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
