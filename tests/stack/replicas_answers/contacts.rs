//! Batches and streams find what another replica fetched.

use hypersender_grpc::domain::{CacheStatus, LookupError};

use super::{ROOM, numbers, without_floor};
use crate::support::{Front, Many, Outcome, Replicas, contact, contacts, count, millis, told, until};

const CONTACTS: usize = 150;

/// Replicas whose store has the answers of [`CONTACTS`] contacts.
async fn filled() -> Replicas {
    let replicas = Replicas::new(numbers);
    let writer = replicas.one().await;
    let outcomes = writer.batch((0..CONTACTS).map(contact)).await.unwrap();
    assert_eq!(count(&outcomes, Outcome::is_ok), CONTACTS);
    let reader = replicas.one_with(without_floor(0)).await;
    for chat in 0..CONTACTS {
        until(&reader, contact(chat).only_if_cached(), Outcome::is_ok).await;
    }
    replicas
}

async fn stream(front: &Front, many: Many) -> Vec<Outcome> {
    let ended = front.look_up(many).await.unwrap();
    assert_eq!(ended.error, None);
    ended.results.into_values().map(|(outcome, _)| outcome).collect()
}

#[tokio::test]
async fn batches_and_streams_ask_nothing_that_another_replica_has_asked() {
    let replicas = filled().await;
    let is_hit = |outcome: &Outcome| told(outcome) == Ok(CacheStatus::Hit);
    for entries in [ROOM, 10, 0] {
        let front = replicas.one_with(without_floor(entries)).await;
        let outcomes = front.batch((0..CONTACTS).map(contact)).await.unwrap();
        assert_eq!(count(&outcomes, is_hit), CONTACTS, "a batch with {entries} entries");
        let front = replicas.one_with(without_floor(entries)).await;
        let outcomes = stream(&front, contacts(0..CONTACTS)).await;
        assert_eq!(count(&outcomes, is_hit), CONTACTS, "a stream with {entries} entries");
    }
    assert_eq!(replicas.calls(), CONTACTS);
}

#[tokio::test]
async fn batches_and_streams_fetch_what_is_missing_and_report_it_when_they_may_not() {
    let replicas = filled().await;
    let missing = |outcome: &Outcome| told(outcome) == Err(LookupError::NotCached);
    for entries in [ROOM, 0] {
        let front = replicas.one_with(without_floor(entries)).await;
        let calls = replicas.calls();
        let outcomes = front.batch((100..200).map(|chat| contact(chat).only_if_cached())).await.unwrap();
        assert_eq!((count(&outcomes, Outcome::is_ok), count(&outcomes, missing)), (50, 50));
        let outcomes = stream(&front, contacts(100..200).only_if_cached()).await;
        assert_eq!((count(&outcomes, Outcome::is_ok), count(&outcomes, missing)), (50, 50));
        assert_eq!(replicas.calls(), calls);
        let first = 1_000 + entries;
        let outcomes = front.batch((first..first + 20).chain(0..80).map(contact)).await.unwrap();
        assert_eq!(count(&outcomes, Outcome::is_ok), 100);
        let outcomes = stream(&front, contacts(first + 20..first + 40)).await;
        assert_eq!(count(&outcomes, Outcome::is_ok), 20);
        assert_eq!(replicas.calls(), calls + 40, "with {entries} entries");
    }
}

#[tokio::test]
async fn a_store_that_hangs_costs_a_batch_and_a_stream_no_answer() {
    let replicas = filled().await;
    let [batch, streaming] = [replicas.impatient_one().await, replicas.impatient_one().await];
    replicas.server.stop();
    let start = tokio::time::Instant::now();
    let outcomes = batch.batch((0..CONTACTS).map(contact)).await.unwrap();
    assert_eq!(count(&outcomes, Outcome::is_ok), CONTACTS);
    let outcomes = stream(&streaming, contacts(0..CONTACTS)).await;
    assert_eq!(count(&outcomes, Outcome::is_ok), CONTACTS);
    // One time-out for each contact would take longer.
    assert!(start.elapsed() < millis(20_000), "{:?}", start.elapsed());
    replicas.server.go_on();
}

#[tokio::test]
async fn streams_of_two_replicas_over_the_same_contacts_ask_for_each_once() {
    let replicas = Replicas::new(|attempt| numbers(attempt).after(millis(50)));
    let [first, second] = [replicas.one().await, replicas.one().await];
    let streams = [&first, &second].map(|front| front.look_up(contacts(0..60)));
    for ended in streams {
        assert_eq!(ended.await.unwrap().answers(), 60);
    }
    assert_eq!(replicas.calls(), 60);
}
