//! The routes of the port: the sealed address, the plain address, and the page of the sandbox.

use std::sync::Arc;

use axum::Router;

use super::{page::Sandbox, pictures::Pictures, sealed::Addresses};
use crate::{
    grpc::Credentials,
    server::Callers,
    stack::{Clock, LookupService},
    telemetry::AvatarMetrics,
};

/// The parts that answer requests.
pub struct Parts<F> {
    /// Finds the images.
    pub pictures: Pictures<F>,
    /// Opens sealed addresses.
    pub addresses: Addresses,
    /// The tokens of the instances.
    pub credentials: Arc<Credentials>,
    /// The callers of the plain address; with `None`, there is no plain address.
    pub callers: Option<Callers>,
    /// Reads the time.
    pub clock: Clock,
    /// The counters.
    pub metrics: Arc<AvatarMetrics>,
    /// The sandbox that the page shows and controls; with `None`, there is no page.
    pub sandbox: Option<Sandbox>,
}

/// The routes of the port.
pub fn routes<F: LookupService>(parts: Parts<F>) -> Router {
    let _ = parts;
    unimplemented!("skeleton")
}
