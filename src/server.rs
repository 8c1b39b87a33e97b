//! Connections in, answers out, and a stop that loses no call.
//!
//! The accept loop is our own rather than tonic's, whose time-outs answer CANCELLED and whose drain waits for ever for an
//! open health watch.

mod admin;
mod batch;
mod callers;
mod connection;
mod deadline;
mod discard;
mod drain;
mod edge;
mod half_close;
mod last_goaway;
mod message;
mod observe;
mod overload;
mod paths;
mod pem;
mod preface;
mod room;
mod tls;
mod unread;

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use rand::RngExt;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::sleep};
use tower::Service;
use tracing::{info, warn};

use self::connection::{Terms, converse};
pub use self::{
    admin::Admin,
    callers::{Callers, CallersLayer, Known, KnownCallers, TokenHash},
    deadline::{DeadlineLayer, Deadlines},
    discard::{DiscardLayer, Discarding, RequestBody},
    drain::{EndStreams, Leaving},
    edge::Edge,
    message::{MessageLayer, Messages},
    observe::{Answer, ObserveLayer, Observed},
    overload::{Overload, OverloadLayer, Placed},
    paths::Paths,
    pem::Pem,
    tls::{Fault as TlsFault, File as TlsFile, PeerNames, Settings as TlsSettings, Tls},
};
use crate::{grpc::Health, telemetry::chain};

/// How the server takes connections and stops.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections open at a time; more wait in the system's queue.
    pub connections: usize,
    /// When a connection gets a GOAWAY, spread by a tenth so that not all come back at once.
    pub connection_age: Option<Duration>,
    /// How long calls are still taken once health checks say NOT_SERVING, so that every load balancer has seen it.
    pub drain_wait: Duration,
    /// How long the calls in flight have to finish after that.
    pub drain_timeout: Duration,
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
/// end of health watches and of streams that listen to `leaving`, and at most the drain time-out for what is left.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<Tls>,
    service: S,
    health: Health,
    leaving: Leaving,
    stop: impl Future<Output = Stop>,
    settings: Settings,
) where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut door = Door {
        listener,
        service,
        terms: Terms { tls, age_max: settings.connection_age, leaving: leaving.listen() },
        places: Arc::new(Semaphore::new(settings.connections)),
        connections: JoinSet::new(),
    };
    let stop = door.open_until(stop).await;
    info!(?stop, "stopping");
    health.leave().await;
    if stop == Stop::Orderly {
        door.open_until(sleep(settings.drain_wait)).await;
    }
    let connections = door.close();
    leaving.tell();
    health.end_watches().await;
    drain::drain(connections, settings.drain_timeout).await;
}

/// Where connections come in.
struct Door<S> {
    listener: TcpListener,
    service: S,
    terms: Terms,
    places: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl<S> Door<S>
where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Lets connections in until `end`.
    async fn open_until<T>(&mut self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        loop {
            tokio::select! {
                end = &mut end => return end,
                () = admit(&self.listener, &self.places, &self.service, &self.terms, &mut self.connections) => {}
            }
        }
    }

    fn close(self) -> JoinSet<()> {
        self.connections
    }
}

/// Lets one connection in, as soon as there is a place for it.
async fn admit<S>(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    service: &S,
    terms: &Terms,
    connections: &mut JoinSet<()>,
) where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Finished connections are let go of, so that the set holds the open ones alone.
    while connections.try_join_next().is_some() {}
    let place = places.clone().acquire_owned().await.expect("this semaphore is never closed");
    match listener.accept().await {
        Ok((stream, _)) => {
            let (service, mut terms) = (service.clone(), terms.clone());
            terms.age_max = terms.age_max.map(|age| age.mul_f64(rand::rng().random_range(0.9..=1.1)));
            connections.spawn(async move {
                converse(stream, service, terms).await;
                drop(place);
            });
        }
        Err(error) => {
            warn!(error = chain(&error), "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}
