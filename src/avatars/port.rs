//! The port of the avatars: HTTP/1.1 and HTTP/2 for browsers and proxies, with bounds on everything that a
//! peer can make grow or wait.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use crate::server::{Leaving, Tls};

/// The settings of the port.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Encryption; with `None`, connections are plain text.
    pub tls: Option<Tls>,
    /// Maximum number of open connections; further ones wait in the system's accept queue.
    pub connections: usize,
    /// Time for the requests in flight to finish once the server stops.
    pub drain_timeout: Duration,
}

/// Serves `routes` on connections of `listener` until the server leaves and the requests in flight have ended.
pub async fn serve(listener: TcpListener, routes: Router, settings: PortSettings, leaving: Leaving) {
    let _ = (listener, routes, settings, leaving);
    unimplemented!("skeleton")
}
