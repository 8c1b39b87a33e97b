//! Two stores on one real server, as two replicas have them.

mod answers;
mod files;
mod leases;
mod outage;
mod rejections;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    Leasing, Listener, Place, Reading, Record, Seen, Server as Address, Settings, Store, StoreTime, Stored,
    lease::Lease, scopes::testing::scope, testing::Server,
};
use crate::{
    domain::{Absence, ChatId, Credential, Finding, Key, Scope},
    telemetry::StoreMetrics as Metrics,
};

/// A time to live that no test outlives.
const LONG: Duration = Duration::from_secs(600);
/// The time-out of the stores. A slow machine must not detach them.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time for what the other replica finds out in the background.
const SOON: Duration = Duration::from_secs(20);

/// A replica: its store, and what its memory hears.
struct Replica {
    store: Store,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    rejected: Mutex<Vec<Instant>>,
    changed: Mutex<Vec<(Key, Instant)>>,
    /// The scopes with answers in memory.
    scopes: Mutex<Vec<Scope>>,
}

impl Listener for Heard {
    fn rejected(&self, scope: &Scope, at: Instant) {
        assert!(self.scopes.lock().contains(scope));
        self.rejected.lock().push(at);
    }

    fn changed(&self, key: &Key, asked_at: Instant) {
        self.changed.lock().push((key.clone(), asked_at));
    }

    fn scopes(&self) -> Vec<Scope> {
        self.scopes.lock().clone()
    }
}

impl Replica {
    async fn on(server: &Server) -> Self {
        Self::with(server, TIMEOUT, Arc::default()).await
    }

    async fn with(server: &Server, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let address = Address::at("127.0.0.1", server.port(), "test");
        Self::open(Place::Server(address), timeout, metrics).await
    }

    async fn open(place: Place, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let settings = Settings { place, timeout, replicas: 2 };
        let (store, heard) = (Store::open(settings, metrics).await.unwrap(), Arc::<Heard>::default());
        store.tell(heard.clone());
        Self { store, heard }
    }

    /// Two replicas on a server of their own, which hear of each other.
    async fn two() -> (Server, Self, Self) {
        let server = Server::start();
        let (one, other) = (Self::on(&server).await, Self::on(&server).await);
        subscribed(&server, 2).await;
        (server, one, other)
    }

    async fn read(&self, number: &str, seen: Option<StoreTime>) -> Reading {
        let (key, credential) = contact(number);
        let seen = Seen { answer: seen, ..Seen::default() };
        self.store.read(&key, &credential, seen, true).await.unwrap()
    }

    async fn answer(&self, number: &str) -> Option<Stored> {
        let (key, credential) = contact(number);
        self.store.read(&key, &credential, Seen::default(), false).await.unwrap().answer
    }

    /// The lease, once nobody else has it: a lease that was dropped is released in the background.
    async fn lease(&self, number: &str) -> Lease {
        let mut lease = None;
        eventually(async || {
            let reading = self.read(number, None).await;
            let is_free = !is_held(&reading);
            lease = is_free.then(|| taken(reading));
            is_free
        })
        .await;
        lease.expect("it is free")
    }

    /// Fetches an answer, stores it, and waits until it is there.
    async fn fetch(&self, number: &str) -> Stored {
        let lease = self.lease(number).await;
        let stored = self.found();
        lease.store(stored.record.clone(), stored.asked_at, LONG, false);
        eventually(async || self.answer(number).await.as_ref() == Some(&stored)).await;
        stored
    }

    /// An answer that Hypersender gives now.
    fn found(&self) -> Stored {
        let now = self.store.clock().at(Instant::now()).unwrap();
        let asked_at = StoreTime::from_millis(now.millis());
        let fresh_until = StoreTime::from_micros(now.micros() + 60_000_000);
        let finding = Finding::Absent(Absence::Null);
        Stored { record: Record { finding, fetched: now, fresh_until, since: None }, asked_at }
    }

    /// The name of the record of the scope.
    fn scope_name(&self) -> String {
        let (scope, credential) = scope("token");
        self.store.parts().scopes.of(&scope, &credential).name.clone()
    }

    fn is_attached(&self) -> bool {
        self.store.parts().guard.is_attached()
    }
}

fn contact(number: &str) -> (Key, Credential) {
    let (scope, credential) = scope("token");
    (Key { scope, chat: ChatId::parse(number).unwrap() }, credential)
}

fn taken(reading: Reading) -> Lease {
    match reading.lease {
        Leasing::Taken(lease) => lease,
        other => panic!("no lease: {other:?}"),
    }
}

fn is_held(reading: &Reading) -> bool {
    matches!(reading.lease, Leasing::Held)
}

/// Waits until so many replicas hear the news.
async fn subscribed(server: &Server, count: usize) {
    eventually(async || {
        let reply: (String, usize) = server.command(&["PUBSUB", "NUMSUB", "test:news"]).await;
        reply.1 == count
    })
    .await;
}

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < SOON, "it does not come to be");
        sleep(Duration::from_millis(20)).await;
    }
}
