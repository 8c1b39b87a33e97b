//! The end of the server: [`Leaving`] announces it to connections and streams, and [`drain`] waits for their
//! calls.

use std::time::Duration;

use tokio::{sync::watch, task::JoinSet, time::timeout};
use tracing::{debug, warn};

/// Announces to connections and streams that the server stops.
#[derive(Clone, Debug)]
pub struct Leaving(watch::Sender<bool>);

impl Leaving {
    /// Creates it with no stop announced.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// A receiver whose value becomes `true` when the stop is announced.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Announces the stop to all receivers.
    pub fn announce(&self) {
        self.0.send_replace(true);
    }
}

impl Default for Leaving {
    fn default() -> Self {
        Self::new()
    }
}

/// Resolves once the stop is announced, or the server is dropped.
pub async fn announced(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

/// Waits up to `limit` for all connections to end, and then closes those that are left.
pub async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    debug!(connections = connections.len(), "finishing calls in flight");
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(limit, finished).await.is_err() {
        warn!(connections = connections.len(), "cut connections that did not finish");
    }
}
