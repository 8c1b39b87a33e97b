//! [`Replicas`]: several stacks above one upstream, with one store. A server has the real clock, so all these
//! tests have it too.

use std::time::Duration;

use hypersender_grpc::{
    stack::{Clock, Settings, Store, StorePlace, StoreServer, StoreSettings},
    telemetry::Metrics,
};
use tokio::time::{Instant, sleep};

use super::{
    Ask, Front, Outcome, plain,
    server::Server,
    upstream::{Attempt, Reply, Upstream},
    wall,
};

/// The time-out of a store that is to answer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait for something that happens in the background.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// The server, and the upstream that counts the requests of all replicas.
pub struct Replicas {
    pub server: Server,
    pub upstream: Upstream,
    clock: Clock,
}

impl Replicas {
    pub fn new(script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static) -> Self {
        let clock = Clock::following_tokio(wall());
        Self { server: Server::start(), upstream: Upstream::new(clock, script), clock }
    }

    /// A replica with an empty memory.
    pub async fn one(&self) -> Front {
        self.one_with(plain()).await
    }

    pub async fn one_with(&self, settings: Settings) -> Front {
        self.one_within(settings, self.server.port(), PATIENCE).await
    }

    /// A replica that reaches the server through this port.
    pub async fn one_through(&self, settings: Settings, port: u16) -> Front {
        self.one_within(settings, port, PATIENCE).await
    }

    /// A replica with the time-out of production.
    pub async fn impatient_one(&self) -> Front {
        self.one_within(plain(), self.server.port(), Duration::from_millis(100)).await
    }

    /// A replica whose store has so much time for each operation.
    pub async fn one_within(&self, settings: Settings, port: u16, timeout: Duration) -> Front {
        let store = store_within(StorePlace::Server(server_at(port)), timeout).await;
        Front::beside(settings, Some(&store), self.clock, self.upstream.clone())
    }

    pub async fn three(&self) -> [Front; 3] {
        [self.one().await, self.one().await, self.one().await]
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The number of requests to Hypersender.
    pub fn calls(&self) -> usize {
        self.upstream.attempts().len()
    }
}

/// A server on this machine.
pub fn server_at(port: u16) -> StoreServer {
    StoreServer::at("127.0.0.1", port, "test")
}

/// A store that answers in time, however busy the machine is.
pub async fn store_at(place: StorePlace) -> Store {
    store_within(place, PATIENCE).await
}

async fn store_within(place: StorePlace, timeout: Duration) -> Store {
    let settings = StoreSettings { place, timeout, replicas: 3 };
    Store::open(settings, Metrics::new(&[]).with_store()).await.unwrap()
}

/// Asks again and again until `is` holds for the outcome.
pub async fn until(front: &Front, ask: Ask, is: impl Fn(&Outcome) -> bool) {
    let end = Instant::now() + EVENTUALLY;
    loop {
        let outcome = front.ask(ask.clone()).await;
        if is(&outcome) {
            return;
        }
        assert!(Instant::now() < end, "this does not happen: {outcome:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
