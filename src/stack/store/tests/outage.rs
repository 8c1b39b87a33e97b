//! A server that is frozen, killed or not there, and its return.

use super::*;
use crate::{
    domain::Instance,
    stack::store::{Attachment, Horizon, TurnMode, TurnRequest, UNSHARED},
    telemetry::{Metrics as AllMetrics, MetricsForm},
};

const ONE: &str = "15551230001";
const SHORT: Duration = Duration::from_millis(200);

/// Reads until the store is away. Returns the longest time of a read.
async fn detach(replica: &Replica) -> Duration {
    let (mut longest, (key, credential)) = (Duration::ZERO, contact(ONE));
    while replica.is_attached() {
        let start = Instant::now();
        assert!(replica.store.read(&key, &credential, Seen::default(), false).await.is_err());
        longest = longest.max(start.elapsed());
    }
    longest
}

async fn back(replica: &Replica) {
    eventually(async || replica.is_attached()).await;
    let Attachment::Attached { returned: Some((at, away)) } = replica.store.attachment() else {
        panic!("{:?}", replica.store.attachment());
    };
    assert!(at.elapsed() < SOON && away < SOON);
}

#[tokio::test]
async fn a_frozen_server_costs_a_call_the_time_out_and_is_used_again_when_it_answers() {
    let server = Server::start();
    let mut all = AllMetrics::new(&[]);
    let one = Replica::with(&server, SHORT, all.with_store()).await;
    let stored = one.fetch(ONE).await;
    server.stop();
    let longest = detach(&one).await;
    assert!(longest >= SHORT && longest < SHORT + Duration::from_secs(2), "{longest:?}");
    let start = Instant::now();
    let (key, credential) = contact(ONE);
    for _ in 0..100 {
        assert!(one.store.read(&key, &credential, Seen::default(), true).await.is_err());
    }
    assert!(start.elapsed() < 100 * SHORT / 2, "no call touches the store");
    assert!(all.text(MetricsForm::Prometheus).contains("hypersender_store_attached 0\n"));
    server.go_on();
    back(&one).await;
    assert_eq!(one.answer(ONE).await, Some(stored));
    assert!(all.text(MetricsForm::Prometheus).contains("hypersender_store_attached 1\n"));
}

#[tokio::test]
async fn a_server_that_was_killed_is_used_again_and_its_answers_are_gone() {
    let mut server = Server::start();
    let one = Replica::with(&server, SHORT, Arc::default()).await;
    one.fetch(ONE).await;
    server.kill();
    detach(&one).await;
    server.restart();
    back(&one).await;
    assert_eq!(one.answer(ONE).await, None);
    one.fetch(ONE).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_used_when_it_comes() {
    let mut server = Server::start();
    server.kill();
    let one = Replica::with(&server, SHORT, Arc::default()).await;
    assert!(matches!(one.store.attachment(), Attachment::Detached { .. }));
    assert!(one.store.clock().at(Instant::now()).is_none());
    server.restart();
    back(&one).await;
    one.fetch(ONE).await;
}

fn turn(latest: Instant) -> TurnRequest {
    let interval = Duration::from_secs(1);
    TurnRequest { mode: TurnMode::Book, interval, slack: Duration::ZERO, latest }
}

#[tokio::test]
async fn a_right_that_is_missing_detaches_although_other_operations_succeed() {
    let server = Server::start();
    let one = Replica::on(&server).await;
    one.fetch(ONE).await;
    let _: () = server.command(&["ACL", "SETUSER", "default", "-hset"]).await;
    let shop = Instance::parse("shop").unwrap();
    for number in 0..3 {
        assert!(one.is_attached(), "{number}");
        assert!(one.answer(ONE).await.is_some());
        assert!(one.store.turn(&shop, turn(Instant::now())).await.is_err());
    }
    assert!(!one.is_attached());
    let _: () = server.command(&["ACL", "SETUSER", "default", "+hset"]).await;
    back(&one).await;
    assert!(one.store.turn(&shop, turn(Instant::now() + SOON)).await.is_ok());
}

#[tokio::test]
async fn replicas_know_how_far_ahead_others_have_booked() {
    let (_server, one, other) = Replica::two().await;
    let (shop, start) = (Instance::parse("shop").unwrap(), Instant::now());
    let latest = start + Duration::from_secs(10);
    assert_eq!(other.store.horizon(&shop), None);
    for number in 0..5 {
        let turn = one.store.turn(&shop, turn(latest)).await.unwrap().turn.unwrap();
        assert!(turn + SOON > start + Duration::from_secs(number));
    }
    let ahead = || other.store.horizon(&shop).map(|horizon| horizon.free_at);
    eventually(async || ahead().is_some_and(|at| at > start + Duration::from_secs(4))).await;
    let paused = one.store.push_back(&shop, Some(Duration::from_secs(60)), true, turn(latest)).await.unwrap();
    eventually(async || {
        let known = other.store.horizon(&shop).unwrap().paused_until;
        known.max(paused) - known.min(paused) < Duration::from_secs(5)
    })
    .await;
}

#[tokio::test]
async fn a_store_that_lost_its_state_learns_which_turns_are_booked() {
    let (server, one, _other) = Replica::two().await;
    let (shop, start) = (Instance::parse("shop").unwrap(), Instant::now());
    let booked = start + Duration::from_secs(5);
    let horizon = Horizon { free_at: booked, spare_at: booked, paused_until: start, changes: UNSHARED };
    one.store.remember(&shop, horizon);
    let _: String = server.command(&["FLUSHALL"]).await;
    let reply = one.store.turn(&shop, turn(start + SOON)).await.unwrap();
    assert!(reply.turn.unwrap() + Duration::from_secs(1) > booked, "{reply:?}");
    assert!(one.store.horizon(&shop).unwrap().changes < UNSHARED, "the record has these turns now");
}
