//! [`Door`]: the accept loop. It enforces the limit of open connections and gives each connection a task.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use rand::RngExt;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::sleep};
use tower::{BoxError, Service};
use tracing::warn;

use super::connection::{Terms, converse};
use crate::telemetry::chain;

/// Pause after a failed accept. The usual cause, too many open files, lasts until a connection is closed.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener, the service for its connections, and the connections that are open.
pub struct Door<S> {
    listener: TcpListener,
    service: S,
    terms: Terms,
    /// One permit for each connection that may be open.
    permits: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl<S, A> Door<S>
where
    S: Service<Request<Incoming>, Response = Response<A>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    A: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Creates the door, which accepts no connection yet. At most `connections_max` are open at a time.
    pub fn new(listener: TcpListener, service: S, terms: Terms, connections_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(connections_max));
        Self { listener, service, terms, permits, connections: JoinSet::new() }
    }

    /// Accepts connections until `end` resolves.
    pub async fn open_until<T>(&mut self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        loop {
            tokio::select! {
                end = &mut end => return end,
                () = self.admit() => {}
            }
        }
    }

    /// Closes the listener. The connections that are open go on.
    pub fn close(self) -> JoinSet<()> {
        self.connections
    }

    /// Accepts one connection, once there is a permit for it. If the future is dropped before that, no
    /// connection is accepted.
    async fn admit(&mut self) {
        // Removes the connections that have ended: the set keeps them until they are joined.
        while self.connections.try_join_next().is_some() {}
        let permit = self.permits.clone().acquire_owned().await.expect("this semaphore is never closed");
        match self.listener.accept().await {
            Ok((stream, _)) => {
                let (service, mut terms) = (self.service.clone(), self.terms.clone());
                terms.age_max = terms.age_max.map(|age| age.mul_f64(rand::rng().random_range(0.9..=1.1)));
                self.connections.spawn(async move {
                    converse(stream, service, terms).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(error = chain(&error), "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
