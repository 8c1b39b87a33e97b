//! The gRPC server: it serves connections, and stops without losing a call.
//!
//! The accept loop is hand-written rather than tonic's: tonic answers an expired deadline with CANCELLED, and
//! its graceful shutdown waits without a limit for an open health watch. The layers around a call are in
//! `calls`.

mod admin;
mod calls;
mod connection;
mod door;
mod drain;
mod pem;

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::{net::TcpListener, time::sleep};
use tonic::body::Body;
use tower::Service;
use tracing::info;

use self::connection::{Terms, converse};
pub use self::{
    admin::Admin,
    calls::{Callers, Known, ObservedBody, TokenHash, calls},
    connection::{HalfClose, LINGER, SlowReader, Tls, TlsFault, TlsFile, TlsSettings, Watched},
    door::Door,
    drain::{Leaving, announced, drain},
    pem::Pem,
};
use crate::{
    domain::TokenOwner,
    grpc::{Health, RequestMessage, Streams},
    telemetry::{CallMetrics, Traces},
};

/// The settings of the server and of the layers around its calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The backends that may call; with `None`, every client may.
    pub callers: Option<Callers>,
    /// Whose token requests to Hypersender carry: the service's or the caller's.
    pub token_owner: TokenOwner,
    /// Time-out of a call without `grpc-timeout`.
    pub deadline: Duration,
    /// Maximum number of calls in progress, over all connections; a further call is refused at once.
    pub in_flight: usize,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// Encryption of connections; with `None`, they are plain text.
    pub tls: Option<Tls>,
    /// Maximum number of open connections; a further one waits in the system's accept queue.
    pub connections: usize,
    /// Age at which a connection gets a GOAWAY, varied by up to a tenth so that clients do not all reconnect
    /// at the same time. With `None`, connections have no maximum age.
    pub connection_age: Option<Duration>,
    /// How long calls are still accepted once health checks say NOT_SERVING, so that every load balancer can
    /// notice.
    pub drain_wait: Duration,
    /// Time for the calls in flight to finish after the drain wait.
    pub drain_timeout: Duration,
}

/// The documented defaults, which the flags of `serve` repeat.
impl Default for Settings {
    fn default() -> Self {
        Self {
            callers: None,
            token_owner: TokenOwner::Server,
            deadline: Duration::from_secs(10),
            in_flight: 16_384,
            reflection: true,
            tls: None,
            connections: 1_024,
            connection_age: None,
            drain_wait: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// Why the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An orchestrator stops the service. Load balancers need time to notice, so the drain wait applies.
    Orderly,
    /// A person at a terminal stops the service and waits for the prompt, so there is no drain wait.
    Prompt,
}

/// The parts of the service whose calls do not end by themselves. They learn of the drain.
#[derive(Debug)]
pub struct LongCalls {
    /// Says NOT_SERVING from the beginning of the drain. Its watches end with the GOAWAY.
    pub health: Health,
    /// The streams of contacts, which begin to end with the GOAWAY.
    pub streams: Streams,
    /// Announces the GOAWAY. Another port that drains with this server subscribes to it.
    pub leaving: Leaving,
}

/// Serves connections of `listener` until `stop` resolves and the drain is over. `contacts` answers the calls
/// of the contact service.
///
/// The drain: health checks say NOT_SERVING; calls are still accepted for the drain wait; then connections
/// get a GOAWAY, health watches and request streams end, streams of contacts start no further look-up, and
/// the calls in flight have the drain time-out to finish.
pub async fn serve<S>(
    listener: TcpListener,
    contacts: S,
    settings: Settings,
    long_calls: LongCalls,
    metrics: Arc<CallMetrics>,
    traces: Option<Traces>,
    stop: impl Future<Output = Stop>,
) where
    S: Service<Request<RequestMessage>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let LongCalls { health, streams, leaving } = long_calls;
    let service = calls(contacts, &settings, &health, metrics, traces, &leaving);
    let terms = Terms { tls: settings.tls, age_max: settings.connection_age, leaving: leaving.subscribe() };
    let mut door = Door::new(listener, settings.connections, move |stream| {
        converse(stream, service.clone(), terms.clone().with_varied_age())
    });
    let stop = door.open_until(stop).await;
    info!(?stop, "stopping");
    health.leave().await;
    if stop == Stop::Orderly {
        door.open_until(sleep(settings.drain_wait)).await;
    }
    let connections = door.close();
    leaving.announce();
    streams.stop();
    health.end_watches().await;
    drain(connections, settings.drain_timeout).await;
}
