//! [`Door`]: the accept loop. It enforces the limit of open connections and gives each connection a task.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tracing::warn;

use crate::telemetry::chain;

/// Pause after a failed accept. The usual cause, too many open files, lasts until a connection is closed.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener, the function that serves a connection, and the connections that are open.
#[derive(Debug)]
pub struct Door<C> {
    listener: TcpListener,
    converse: C,
    /// One permit for each connection that may be open.
    permits: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl<C, F> Door<C>
where
    C: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    /// Creates the door, which accepts no connection yet. At most `connections_max` are open at a time, and
    /// `converse` serves each of them until it ends.
    pub fn new(listener: TcpListener, connections_max: usize, converse: C) -> Self {
        let permits = Arc::new(Semaphore::new(connections_max));
        Self { listener, converse, permits, connections: JoinSet::new() }
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
                let conversation = (self.converse)(stream);
                self.connections.spawn(async move {
                    conversation.await;
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
