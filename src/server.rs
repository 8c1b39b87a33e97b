//! Connections in, answers out, and a stop that loses no call.
//!
//! The accept loop is our own rather than tonic's, whose time-outs answer CANCELLED and whose drain waits for ever for an
//! open health watch.

mod connection;
mod deadline;

use std::{convert::Infallible, future::Future, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::body::Body;
use tower::Service;
use tracing::{debug, info, warn};

use self::connection::converse;
pub use self::deadline::{DeadlineLayer, Deadlines};
use crate::grpc::Health;

/// How the server stops.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long calls are still taken once health checks say NOT_SERVING, so that every load balancer has seen it.
    pub drain_wait: Duration,
    /// How long the calls in flight have to finish after that.
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { drain_wait: Duration::from_secs(5), drain_timeout: Duration::from_secs(20) }
    }
}

/// Who asks the server to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An orchestrator: load balancers need time to look elsewhere.
    Orderly,
    /// A person at a terminal, who waits for the prompt.
    Prompt,
}

/// Time for what keeps a server from accepting (as a rule too many open files) to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections of `listener` until `stop` resolves and the drain is over: NOT_SERVING, the drain wait, GOAWAY, the
/// end of the health watches, and at most the drain time-out for what is left.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    health: Health,
    stop: impl Future<Output = Stop>,
    settings: Settings,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (go_away, leaving) = watch::channel(false);
    let mut door = Door { listener, service, leaving, connections: JoinSet::new() };

    let stop = door.open_until(stop).await;
    info!(?stop, "stopping");
    health.leave().await;
    if stop == Stop::Orderly {
        door.open_until(sleep(settings.drain_wait)).await;
    }
    let connections = door.close();
    go_away.send_replace(true);
    health.end_watches().await;
    drain(connections, settings.drain_timeout).await;
}

/// Where connections come in.
struct Door<S> {
    listener: TcpListener,
    service: S,
    leaving: watch::Receiver<bool>,
    connections: JoinSet<()>,
}

impl<S> Door<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Lets connections in until `end`.
    async fn open_until<T>(&mut self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        loop {
            tokio::select! {
                end = &mut end => return end,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let conversation = converse(stream, self.service.clone(), self.leaving.clone());
                        self.connections.spawn(conversation);
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                // Finished connections are let go of one by one, so that the set holds the open ones alone.
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn close(self) -> JoinSet<()> {
        self.connections
    }
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    debug!(connections = connections.len(), "finishing calls in flight");
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(limit, finished).await.is_err() {
        warn!(connections = connections.len(), "cut connections that did not finish");
    }
}
