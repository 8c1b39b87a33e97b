//! [`Admin`]: the port for monitoring, in plain HTTP/1.1: `/metrics`, `/livez`, `/readyz`.
//!
//! It shows no secret and changes nothing, so the address that it listens on is its only protection. It stays
//! open until the last call has ended, so that a drain can be watched, but it does not delay the end of the
//! process.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::door::ACCEPT_PAUSE;
use crate::{
    grpc::Health,
    telemetry::{Metrics, MetricsForm, chain},
};

/// Maximum number of open connections: enough for a few scrapers and probes at a time. Further connections
/// wait in the system's accept queue.
const CONNECTIONS_MAX: usize = 64;
/// Time for one request and its response. A connection carries no second request.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// The open admin port; closed when it is dropped.
#[derive(Debug)]
pub struct Admin {
    task: JoinHandle<()>,
}

impl Admin {
    /// Serves `listener` in a task of its own.
    #[must_use]
    pub fn start(listener: TcpListener, metrics: Metrics, health: Health) -> Self {
        let metrics = Arc::new(metrics);
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readiness).with_state(health))
            .route("/metrics", get(text).with_state(metrics));
        Self { task: tokio::spawn(accept(listener, routes)) }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn readiness(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_serving() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}

async fn text(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = MetricsForm::accepted(accept.unwrap_or_default());
    ([(CONTENT_TYPE, form.content_type())], metrics.text(form))
}

async fn accept(listener: TcpListener, routes: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, routes.clone()));
                }
                Err(error) => {
                    warn!(error = chain(&error), "cannot accept a connection to the admin port");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, routes: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(error = chain(&error), "a connection to the admin port ended in an error"),
        Err(_) => debug!("cut a connection to the admin port that took too long"),
    }
}
