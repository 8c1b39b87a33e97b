//! A rejected token, and what the replicas do about it.

use super::*;
use crate::stack::store::{engine::Failed, revocation::check_scopes};

const ONE: &str = "15551230001";

fn reject(replica: &Replica) {
    let (scope, credential) = scope("token");
    replica.store.reject(&scope, &credential, Instant::now());
}

fn hold(replica: &Replica) {
    replica.heard.scopes.lock().push(scope("token").0);
}

#[tokio::test]
async fn a_rejection_hides_everything_older_until_a_later_answer_lifts_it() {
    let (_server, one, other) = Replica::two().await;
    let before = one.fetch(ONE).await;
    hold(&other);
    other.answer(ONE).await;
    sleep(Duration::from_millis(5)).await;
    reject(&one);
    assert_eq!(one.answer(ONE).await, None, "in this process at once");
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
    assert_eq!(other.answer(ONE).await, None);
    let at = other.heard.rejected.lock()[0];
    let asked = other.store.clock().instant(before.asked_at).unwrap();
    assert!(asked < at && at <= Instant::now());

    // An attempt that began before the rejection.
    let lease = one.lease(ONE).await;
    lease.store(before.record.clone(), before.asked_at, LONG, false);
    eventually(async || !is_held(&other.read(ONE, None).await)).await;
    assert_eq!(other.answer(ONE).await, None);

    sleep(Duration::from_millis(5)).await;
    let later = one.fetch(ONE).await;
    assert_eq!(other.answer(ONE).await, Some(later));
}

#[tokio::test]
async fn a_token_that_never_had_an_answer_leaves_no_trace() {
    let (server, one, other) = Replica::two().await;
    hold(&other);
    other.answer(ONE).await;
    reject(&one);
    one.store.close().await;
    let names: Vec<String> = server.command(&["KEYS", "*"]).await;
    assert_eq!(names, ["test:probe"]);
    assert!(other.heard.rejected.lock().is_empty());
}

#[tokio::test]
async fn a_replica_that_missed_the_message_finds_the_rejection() {
    let (server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    hold(&other);
    other.answer(ONE).await;
    // Written, and not announced.
    let flag = one.store.parts().backend.reject(&one.scope_name(), Duration::ZERO).await.unwrap();
    assert!(flag.is_some());
    assert!(other.heard.rejected.lock().is_empty());
    check_scopes(other.store.parts()).await.unwrap();
    assert_eq!(other.heard.rejected.lock().len(), 1);
    // The same on every subscription.
    let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually(async || other.heard.rejected.lock().len() > 1).await;
}

#[tokio::test]
async fn a_rejection_that_a_look_up_reads_is_told_to_memory_once() {
    let (_server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    hold(&other);
    other.answer(ONE).await;
    sleep(Duration::from_millis(5)).await;
    // Written, and not announced.
    let flag = one.store.parts().backend.reject(&one.scope_name(), Duration::ZERO).await.unwrap();
    assert!(flag.is_some());
    for _ in 0..2 {
        assert_eq!(other.answer(ONE).await, None);
        assert_eq!(other.heard.rejected.lock().len(), 1);
    }
}

#[tokio::test]
async fn a_record_that_is_missing_drops_nothing() {
    let (server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    hold(&other);
    other.answer(ONE).await;
    let _: String = server.command(&["FLUSHALL"]).await;
    check_scopes(other.store.parts()).await.unwrap();
    assert!(other.heard.rejected.lock().is_empty());
    reject(&one);
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
}

#[tokio::test]
async fn a_rejection_while_the_store_is_away_is_written_before_anything_is_read() {
    let server = Server::start();
    let one = Replica::with(&server, Duration::from_millis(500), Arc::default()).await;
    let other = Replica::on(&server).await;
    subscribed(&server, 2).await;
    one.fetch(ONE).await;
    hold(&other);
    other.answer(ONE).await;
    server.stop();
    let (key, credential) = contact(ONE);
    while one.is_attached() {
        assert!(one.store.read(&key, &credential, Seen::default(), false).await.is_err());
    }
    reject(&one);
    server.go_on();
    eventually(async || one.is_attached()).await;
    assert_eq!(one.answer(ONE).await, None);
    assert!(one.store.parts().rejections.all().is_empty(), "it was written before the return");
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
    assert_eq!(other.answer(ONE).await, None);
}

#[tokio::test]
async fn a_rejection_that_the_store_has_lost_is_written_again() {
    let (server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    hold(&one);
    sleep(Duration::from_millis(5)).await;
    reject(&one);
    let scope = one.scope_name();
    let has_flag = async || server.command::<bool>(&["HEXISTS", &scope, "r"]).await;
    eventually(has_flag).await;
    // A server that lost its last write, as after a fail-over.
    let _: u64 = server.command(&["HDEL", &scope, "r"]).await;
    assert!(other.answer(ONE).await.is_some());
    check_scopes(one.store.parts()).await.unwrap();
    eventually(has_flag).await;
    assert_eq!(other.answer(ONE).await, None);

    // A later answer has lifted it, so that it is not lost.
    sleep(Duration::from_millis(5)).await;
    one.fetch(ONE).await;
    assert!(!has_flag().await);
    check_scopes(one.store.parts()).await.unwrap();
    eventually(async || one.store.parts().rejections.all().is_empty()).await;
    assert!(!has_flag().await);
}

/// Two replicas that know the token, with memories that hold answers of it. Operations of the first one time
/// out soon.
async fn two_that_hold() -> (Server, Replica, Replica) {
    let server = Server::start();
    let one = Replica::with(&server, Duration::from_millis(500), Arc::default()).await;
    let other = Replica::on(&server).await;
    subscribed(&server, 2).await;
    one.fetch(ONE).await;
    hold(&one);
    hold(&other);
    other.answer(ONE).await;
    (server, one, other)
}

/// Lets `replica` find out that it is cut off. It is back after a second or more.
fn cut_off(replica: &Replica) {
    replica.store.parts().guard.detach(Failed { cause: "cut off".into() });
}

#[tokio::test]
async fn a_rejection_while_detached_is_announced_on_return_even_if_it_is_lost_again() {
    let (server, one, other) = two_that_hold().await;
    cut_off(&one);
    reject(&one);
    // Without the record, no other way leads to the other replica.
    let _: String = server.command(&["FLUSHALL"]).await;
    assert!(other.heard.rejected.lock().is_empty() && !one.is_attached());
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
    assert!(one.is_attached());
}

#[tokio::test]
async fn a_replica_that_returns_hears_of_a_rejection_whose_record_is_gone() {
    let (server, one, other) = two_that_hold().await;
    // It hears of the rejection, as over a subscription that is not cut off. So it must hear twice.
    cut_off(&other);
    reject(&one);
    eventually(async || other.heard.rejected.lock().len() == 1).await;
    assert!(!other.is_attached());
    let _: String = server.command(&["FLUSHALL"]).await;
    eventually(async || other.heard.rejected.lock().len() == 2).await;
    assert!(other.is_attached());
}

#[tokio::test]
async fn a_replica_that_subscribes_again_hears_of_a_rejection_whose_record_is_gone() {
    let (server, one, other) = two_that_hold().await;
    reject(&one);
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
    let _: String = server.command(&["FLUSHALL"]).await;
    other.heard.rejected.lock().clear();
    let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
}

#[tokio::test]
async fn a_check_that_finds_no_record_announces_the_rejection_again() {
    let (server, one, other) = two_that_hold().await;
    reject(&one);
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
    let _: String = server.command(&["FLUSHALL"]).await;
    other.heard.rejected.lock().clear();
    check_scopes(one.store.parts()).await.unwrap();
    eventually(async || !other.heard.rejected.lock().is_empty()).await;
    // A later answer lifts it.
    sleep(Duration::from_millis(5)).await;
    one.fetch(ONE).await;
    assert!(one.store.parts().scopes.rejections(9).is_empty());
}
