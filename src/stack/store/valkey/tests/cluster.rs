//! A cluster of three nodes.

use tokio::time::{Instant, sleep};

use super::{
    super::{
        super::{
            engine::{Heard, Leased, TurnMode, TurnRequest},
            testing::free_port,
        },
        Found,
    },
    *,
};

/// A cluster is ready within some seconds.
const SOON: Duration = Duration::from_secs(60);
/// The slots of a cluster.
const SLOTS: u64 = 16384;

/// Three nodes, each with a third of the slots.
struct Cluster([Server; 3]);

impl Cluster {
    async fn start() -> Self {
        let start = |_| {
            let bus = free_port().to_string();
            let options =
                ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
            (Server::with(&options), bus)
        };
        let nodes = [0, 1, 2].map(start);
        for (at, (node, _)) in (0..).zip(&nodes) {
            let (first, last) = (SLOTS * at / 3, SLOTS * (at + 1) / 3 - 1);
            let _: () =
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            let (met, bus) = &nodes[0];
            let _: () = node.command(&["CLUSTER", "MEET", "127.0.0.1", &met.port().to_string(), bus]).await;
        }
        let cluster = Self(nodes.map(|(node, _)| node));
        cluster.until_ready().await;
        cluster
    }

    /// Waits until every node knows the slots of all.
    async fn until_ready(&self) {
        let started = Instant::now();
        for node in &self.0 {
            loop {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384") {
                    break;
                }
                assert!(started.elapsed() < SOON, "{info}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn valkey(&self) -> Valkey {
        Valkey::new(&self.settings()).unwrap()
    }

    fn settings(&self) -> Settings {
        let hosts = self.0.iter().map(|node| ("127.0.0.1".to_owned(), node.port())).collect();
        Settings { hosts, is_cluster: true, ..settings(0) }
    }

    /// The slot of the names with the tag of the tests, its node, and another node.
    async fn slot(&self) -> (String, &Server, &Server) {
        let slot: u64 = self.0[0].command(&["CLUSTER", "KEYSLOT", TAG]).await;
        let at = usize::try_from(slot * 3 / SLOTS).unwrap();
        (slot.to_string(), &self.0[at], &self.0[(at + 1) % 3])
    }
}

fn booking() -> TurnRequest {
    TurnRequest {
        mode: TurnMode::Book,
        interval: Duration::from_millis(1),
        slack: Duration::from_secs(1),
        patience: Duration::ZERO,
        known_free_in: Duration::ZERO,
        known_pause: Duration::ZERO,
        known_changes: 0,
    }
}

async fn id(node: &Server) -> String {
    node.command(&["CLUSTER", "MYID"]).await
}

/// How many turns were booked on a node; it knows no other slots.
async fn booked(node: &Server) -> String {
    let stats: String = node.command(&["INFO", "commandstats"]).await;
    let hset = stats.lines().find(|line| line.starts_with("cmdstat_hset:")).unwrap_or_default();
    hset.split([':', ',']).nth(1).unwrap_or("calls=0").to_owned()
}

#[tokio::test]
async fn every_operation_works_in_a_cluster() {
    let cluster = Cluster::start().await;
    let valkey = cluster.valkey();
    assert_eq!(valkey.check(&cluster.settings()).await.unwrap(), Found::Working);
    valkey.probe().await.unwrap();
    let mut heard = valkey.subscribe();
    assert_eq!(heard.recv().await, Some(Heard::Subscribed));

    // Instances whose names lie on all of the nodes.
    let mut scopes = Vec::new();
    for instance in 0..10 {
        let tag = format!("{{test:{instance}}}");
        let name = |kind: &str| format!("{tag}:{kind}");
        let [scope, scope_failure, answer, lease, failure] = ["s:1", "f:1", "a:2", "l:2", "f:2"].map(name);
        let names = Names { scope, scope_failure, answer, lease, failure };
        begin(&valkey, &names, 1000).await;
        let leased = valkey.read(&names, seen(1000), Some(LEASE)).await.unwrap().lease;
        assert_eq!(leased, Leased::Taken);
        assert!(valkey.renew(&names.lease, LEASE).await.unwrap());
        valkey.fail(&names, crate::domain::Reach::Scope, &sealed(1), LONG, LEASE).await.unwrap();
        let group = std::slice::from_ref(&names.answer);
        assert_eq!(valkey.answers(&names.scope, group).await.unwrap().2, [Some(sealed(1000))]);
        valkey.release(&names.lease, LEASE).await.unwrap();
        valkey.turn(&tag, booking()).await.unwrap();
        scopes.push(names.scope);
    }
    assert!(valkey.scopes(&scopes).await.unwrap().iter().all(Option::is_some));
    valkey.reject(&scopes[3], Duration::ZERO).await.unwrap().unwrap();
    let rejected = valkey.scopes(&scopes).await.unwrap();
    let rejected = rejected.into_iter().map(|scope| scope.unwrap().rejected_at.is_some());
    assert_eq!(rejected.collect::<Vec<_>>(), (0..10).map(|at| at == 3).collect::<Vec<_>>());
    for node in &cluster.0 {
        assert!(node.command::<u64>(&["DBSIZE"]).await > 0, "each node has something");
    }

    valkey.publish(b"news".to_vec()).await.unwrap();
    assert_eq!(heard.recv().await, Some(Heard::Message(b"news".to_vec())));
}

#[tokio::test]
async fn a_slot_that_has_moved_is_followed_without_a_second_booking() {
    let cluster = Cluster::start().await;
    let valkey = cluster.valkey();
    valkey.probe().await.unwrap();
    let (slot, from, to) = cluster.slot().await;
    for node in [to, from] {
        let _: () = node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to).await]).await;
    }
    valkey.turn(TAG, booking()).await.unwrap();
    assert_eq!((booked(from).await, booked(to).await), ("calls=0".to_owned(), "calls=1".to_owned()));
    begin(&valkey, &names("a"), 1000).await;
    valkey.turn(TAG, booking()).await.unwrap();
    assert_eq!(booked(from).await, "calls=0");
}

/// While a slot moves, a server serves a record at its new node, but no script on several records of which
/// one is absent.
#[tokio::test]
async fn a_slot_that_is_moving_is_asked_for_at_its_new_node() {
    let cluster = Cluster::start().await;
    let valkey = cluster.valkey();
    let names = names("a");
    begin(&valkey, &names, 1000).await;
    assert_eq!(valkey.read(&names, seen(1000), Some(LEASE)).await.unwrap().lease, Leased::Taken);

    let (slot, from, to) = cluster.slot().await;
    let _: () = to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from).await]).await;
    let _: () = from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to).await]).await;
    for name in [&names.scope, &names.answer, &names.lease] {
        let _: () = from.command(&["MIGRATE", "127.0.0.1", &to.port().to_string(), name, "0", "5000"]).await;
    }
    assert!(valkey.renew(&names.lease, LEASE).await.unwrap());
    let failed = valkey.turn(TAG, booking()).await.unwrap_err();
    assert_eq!(failed.cause, "TRYAGAIN: a slot is moving");
    for node in [to, from] {
        let _: () = node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to).await]).await;
    }
    valkey.turn(TAG, booking()).await.unwrap();
    assert_eq!(valkey.read(&names, Seen::default(), None).await.unwrap().answer, Some(sealed(1000)));
}

#[tokio::test]
async fn a_node_that_is_gone_is_a_failure_until_it_is_back() {
    let mut cluster = Cluster::start().await;
    let valkey = cluster.valkey();
    begin(&valkey, &names("a"), 1000).await;
    let (_, gone, _) = cluster.slot().await;
    let at = cluster.0.iter().position(|node| node.port() == gone.port()).unwrap();
    cluster.0[at].stop();
    for _ in 0..5 {
        assert!(tokio::time::timeout(Duration::from_millis(100), valkey.turn(TAG, booking())).await.is_err());
    }
    cluster.0[at].go_on();
    cluster.until_ready().await;
    let started = Instant::now();
    while let Err(failed) = valkey.turn(TAG, booking()).await {
        assert!(started.elapsed() < SOON, "{failed:?}");
        sleep(Duration::from_millis(50)).await;
    }
    cluster.0[at].kill();
    let failed = valkey.turn(TAG, booking()).await.unwrap_err();
    assert!(!failed.cause.contains("127.0.0.1"), "{failed:?}");
}
