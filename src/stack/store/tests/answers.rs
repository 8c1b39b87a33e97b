//! Answers and cool-downs that one replica stores and another reads.

use super::*;
use crate::{
    domain::{LookupError, Reach},
    stack::store::FailureRecord,
    telemetry::{Metrics as AllMetrics, MetricsForm},
};

const ONE: &str = "15551230001";
const OTHER: &str = "15551230002";

#[tokio::test]
async fn another_replica_reads_an_answer_with_its_times() {
    let (_server, one, other) = Replica::two().await;
    assert_eq!(one.answer(ONE).await, None);
    let stored = one.fetch(ONE).await;
    assert_eq!(other.answer(ONE).await, Some(stored.clone()));
    let (key, credential) = contact(ONE);
    let chats = [OTHER, ONE].map(|number| ChatId::parse(number).unwrap());
    let group = other.store.read_group(&key.scope, &credential, &chats).await.unwrap();
    assert_eq!(group, [None, Some(stored)]);
}

#[tokio::test]
async fn another_token_reads_nothing() {
    let (_server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    let (key, credential) = (contact(ONE).0, scope("another token"));
    let key = Key { scope: credential.0, chat: key.chat };
    let reading = other.store.read(&key, &credential.1, Seen::default(), false).await.unwrap();
    assert_eq!(reading.answer, None);
}

#[tokio::test]
async fn nothing_in_the_store_names_the_contact_the_token_or_the_instance() {
    let (server, one, _other) = Replica::two().await;
    one.fetch(ONE).await;
    let names: Vec<String> = server.command(&["KEYS", "*"]).await;
    assert!(names.len() >= 2, "{names:?}");
    for name in names {
        for secret in [ONE, "token", "shop"] {
            assert!(!name.contains(secret), "{name}");
        }
        let kind: String = server.command(&["TYPE", &name]).await;
        if kind == "string" {
            let value: Vec<u8> = server.command(&["GET", &name]).await;
            assert!(!value.windows(ONE.len()).any(|part| part == ONE.as_bytes()));
        }
    }
}

#[tokio::test]
async fn answers_of_a_scope_without_its_record_do_not_count_and_never_come_back() {
    let (server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    let before = one.fetch(OTHER).await;
    let _: u32 = server.command(&["DEL", &one.scope_name()]).await;
    assert_eq!(other.answer(ONE).await, None);
    let stored = other.fetch(ONE).await;
    assert_eq!(one.answer(ONE).await, Some(stored), "the scope has another epoch");
    assert_eq!(one.answer(OTHER).await, None, "it was sealed with the former epoch");
    let fetched = one.fetch(OTHER).await;
    assert!(fetched.asked_at >= before.asked_at);
}

#[tokio::test]
async fn an_answer_is_sealed_again_when_the_scope_has_another_epoch_or_none() {
    let (server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    for has_other_epoch in [true, false] {
        let stored = one.found();
        let lease = taken(one.read(ONE, Some(stored.asked_at)).await);
        let _: u32 = server.command(&["DEL", &one.scope_name()]).await;
        if has_other_epoch {
            other.fetch(OTHER).await;
        }
        let stored = one.found();
        lease.store(stored.record.clone(), stored.asked_at, LONG, false);
        eventually(async || other.answer(ONE).await.as_ref() == Some(&stored)).await;
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_counted_and_overwritten_whatever_its_time() {
    let (server, one, _other) = Replica::two().await;
    one.fetch(ONE).await;
    let mut all = AllMetrics::new(&[]);
    let other = Replica::with(&server, TIMEOUT, all.with_store()).await;
    let (key, credential) = contact(ONE);
    let name = other.store.parts().scopes.of(&key.scope, &credential).names(&key.chat).answer;
    // Another version, and a time that is far ahead.
    let value = "\x09\x00\x00\x7f\x7f\x7f\x7f\x7f\x7f of a newer version";
    let _: String = server.command(&["SET", &name, value]).await;
    let reading = other.read(ONE, None).await;
    assert_eq!(reading.answer, None);
    let (lease, stored) = (taken(reading), other.found());
    assert!(all.text(MetricsForm::Prometheus).contains("answers_total{result=\"unreadable\"} 1\n"));
    lease.store(stored.record.clone(), stored.asked_at, LONG, false);
    eventually(async || one.answer(ONE).await.as_ref() == Some(&stored)).await;
}

fn failure(replica: &Replica, length: Duration) -> FailureRecord {
    let began = StoreTime::from_millis(replica.found().asked_at.millis());
    let until = StoreTime::from_micros(began.micros() + u64::try_from(length.as_micros()).unwrap());
    FailureRecord { error: LookupError::ResponseInvalid, began, until, time: length }
}

#[tokio::test]
async fn a_cool_down_is_shared_once_the_token_had_an_answer() {
    let (_server, one, other) = Replica::two().await;
    one.lease(ONE).await.fail(failure(&one, LONG), Reach::Key);
    let reading = async || other.read(ONE, None).await;
    eventually(async || matches!(reading().await.lease, Leasing::Taken(_))).await;
    one.fetch(OTHER).await;
    eventually(async || !is_held(&one.read(ONE, None).await)).await;
    for reach in [Reach::Key, Reach::Scope] {
        let failure = failure(&one, LONG);
        let mut lease = None;
        eventually(async || {
            let seen = Seen { failure: Some(failure.began), ..Seen::default() };
            let (key, credential) = contact(ONE);
            let reading = one.store.read(&key, &credential, seen, true).await.unwrap();
            let Leasing::Taken(taken) = reading.lease else { return false };
            lease = Some(taken);
            true
        })
        .await;
        lease.unwrap().fail(failure.clone(), reach);
        eventually(async || {
            let reading = reading().await;
            let read = if reach == Reach::Key { reading.failure } else { reading.scope_failure };
            read.as_ref() == Some(&failure) && matches!(reading.lease, Leasing::No)
        })
        .await;
    }
    one.store.close().await;
}

#[tokio::test]
async fn a_cool_down_that_is_over_keeps_the_lease_from_nobody() {
    let (_server, one, other) = Replica::two().await;
    one.fetch(OTHER).await;
    let failure = failure(&one, Duration::from_micros(1));
    one.lease(ONE).await.fail(failure.clone(), Reach::Key);
    let mut reading = None;
    eventually(async || {
        let read = other.read(ONE, None).await;
        let is_shared = read.failure.is_some();
        reading = Some(read);
        is_shared
    })
    .await;
    let reading = reading.unwrap();
    assert_eq!(reading.failure, Some(failure));
    taken(reading);
}

#[tokio::test]
async fn what_is_still_to_be_written_is_written_when_the_store_closes() {
    let (_server, one, other) = Replica::two().await;
    let (lease, stored) = (one.lease(ONE).await, one.found());
    lease.store(stored.record.clone(), stored.asked_at, LONG, false);
    one.store.close().await;
    assert_eq!(other.answer(ONE).await, Some(stored));
}

#[tokio::test]
async fn a_change_is_announced_to_the_others() {
    let (_server, one, other) = Replica::two().await;
    one.fetch(ONE).await;
    other.answer(ONE).await;
    let stored = one.found();
    let lease = taken(one.read(ONE, Some(stored.asked_at)).await);
    lease.store(stored.record.clone(), stored.asked_at, LONG, true);
    eventually(async || !other.heard.changed.lock().is_empty()).await;
    let (key, asked_at) = other.heard.changed.lock()[0].clone();
    assert_eq!(key, contact(ONE).0);
    assert!(asked_at <= Instant::now() && asked_at.elapsed() < SOON);
    // Messages come in the order in which they were published, so this one would have come first.
    one.store.parts().announce(None);
    assert!(one.heard.changed.lock().is_empty(), "a process skips its own messages");
}
