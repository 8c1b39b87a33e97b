//! The lease of a fetch, between two replicas.

use std::future::{pending, poll_fn};

use super::*;
use crate::{
    domain::{LookupError, Reach},
    stack::store::FailureRecord,
    telemetry::{Metrics as AllMetrics, MetricsForm},
};

const ONE: &str = "15551230001";
/// The life of a lease.
const LEASE: Duration = Duration::from_secs(3);
/// Much less than that.
const EARLY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn others_wait_for_the_answer_of_the_owner() {
    let (_server, one, other) = Replica::two().await;
    let lease = one.lease(ONE).await;
    assert!(is_held(&other.read(ONE, None).await));
    let stored = one.found();
    lease.store(stored.record.clone(), stored.asked_at, LONG, false);
    let mut reading = other.read(ONE, None).await;
    eventually(async || {
        reading = other.read(ONE, None).await;
        reading.answer.is_some()
    })
    .await;
    assert_eq!(reading.answer.as_ref(), Some(&stored));
    assert!(matches!(reading.lease, Leasing::No), "the caller has not seen this answer");
    taken(other.read(ONE, Some(stored.asked_at)).await);
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_the_fetch_takes() {
    let (_server, one, other) = Replica::two().await;
    let lease = one.lease(ONE).await;
    let fetched = lease.keep(async {
        sleep(LEASE + Duration::from_secs(1)).await;
        assert!(is_held(&other.read(ONE, None).await));
        7
    });
    assert_eq!(fetched.await, 7);
    drop(lease);
    eventually(async || !is_held(&other.read(ONE, None).await)).await;
}

#[tokio::test]
async fn the_lease_of_a_replica_that_died_is_taken_over() {
    let server = Server::start();
    let mut all = AllMetrics::new(&[]);
    let one = Replica::on(&server).await;
    let other = Replica::with(&server, TIMEOUT, all.with_store()).await;
    let (start, lease) = (Instant::now(), one.lease(ONE).await);
    std::mem::forget(lease);
    assert!(is_held(&other.read(ONE, None).await));
    eventually(async || !is_held(&other.read(ONE, None).await)).await;
    assert!(start.elapsed() < LEASE + Duration::from_secs(2));
    let text = all.text(MetricsForm::Prometheus);
    for (result, count) in [("taken", 0), ("waited", 1), ("taken_over", 1)] {
        let line = format!("hypersender_leases_total{{result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{text}");
    }
}

#[tokio::test]
async fn a_lease_that_is_dropped_is_free_at_once() {
    let (_server, one, other) = Replica::two().await;
    let lease = one.lease(ONE).await;
    let start = Instant::now();
    drop(lease);
    eventually(async || !is_held(&other.read(ONE, None).await)).await;
    assert!(start.elapsed() < EARLY);
}

#[tokio::test]
async fn a_lease_whose_read_is_cancelled_does_not_leak() {
    let (_server, one, other) = Replica::two().await;
    for _ in 0..20 {
        let start = Instant::now();
        let (key, credential) = contact(ONE);
        let mut read = Box::pin(one.store.read(&key, &credential, Seen::default(), true));
        // The command is on its way after a few polls, and its reply is not read.
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls > 3 || read.as_mut().poll(context).is_ready() {
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        })
        .await;
        drop(read);
        eventually(async || !is_held(&other.read(ONE, None).await)).await;
        assert!(start.elapsed() < EARLY);
    }
}

#[tokio::test]
async fn a_lease_that_was_lost_is_not_taken_from_its_new_owner() {
    let (server, one, other) = Replica::two().await;
    let lease = one.lease(ONE).await;
    let _: String = server.command(&["FLUSHALL"]).await;
    let theirs = other.lease(ONE).await;
    // The renewal finds out.
    lease.keep(sleep(Duration::from_millis(1500))).await;
    drop(lease);
    theirs.keep(sleep(Duration::from_millis(1500))).await;
    assert!(is_held(&one.read(ONE, None).await));
}

/// Waits until the server has no lease of the contact, for less than a lease lives.
async fn released(server: &Server, one: &Replica) {
    let (key, credential) = contact(ONE);
    let name = one.store.parts().scopes.of(&key.scope, &credential).names(&key.chat).lease;
    let start = Instant::now();
    eventually(async || server.command::<u64>(&["EXISTS", &name]).await == 0).await;
    assert!(start.elapsed() < EARLY);
}

async fn set_memory(server: &Server, bytes: &str) {
    let _: () = server.command(&["CONFIG", "SET", "maxmemory", bytes]).await;
}

#[tokio::test]
async fn a_lease_is_released_although_the_answer_or_the_failure_cannot_be_written() {
    let server = Server::start();
    let one = Replica::on(&server).await;
    let stored = one.fetch(ONE).await;
    let lease = taken(one.read(ONE, Some(stored.asked_at)).await);
    set_memory(&server, "1").await;
    let again = one.found();
    lease.store(again.record, again.asked_at, LONG, false);
    released(&server, &one).await;

    set_memory(&server, "0").await;
    let lease = taken(one.read(ONE, Some(stored.asked_at)).await);
    set_memory(&server, "1").await;
    let began = stored.asked_at;
    let until = StoreTime::from_micros(began.micros() + 60_000_000);
    let time = Duration::from_secs(60);
    lease.fail(FailureRecord { error: LookupError::InstanceStarting, began, until, time }, Reach::Key);
    released(&server, &one).await;
}

#[tokio::test]
async fn a_lease_is_released_while_too_much_is_written_in_the_background() {
    let server = Server::start();
    let one = Replica::on(&server).await;
    let start = Instant::now();
    let (dropped, writing) = (one.lease("15551230002").await, one.lease(ONE).await);
    for _ in 0..2000 {
        one.store.parts().in_background(pending());
    }
    let stored = one.found();
    drop(dropped);
    writing.store(stored.record, stored.asked_at, LONG, false);
    eventually(async || server.command::<Vec<String>>(&["KEYS", "*:l:*"]).await.is_empty()).await;
    assert!(start.elapsed() < EARLY);
}
