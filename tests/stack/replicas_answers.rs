//! Replicas that share their answers: one request however many ask, and nothing that is worse than without a
//! store.

mod changes;
mod contacts;
mod outages;

use hypersender_grpc::{
    domain::{CacheStatus, Finding, LookupError, Rejected},
    stack::{CacheSettings, Settings, Trust},
};
use std::time::Duration;
use tokio::time::sleep;

use crate::support::{
    Attempt, Outcome, Replicas, Reply, SECOND, contact, count, link_to, millis, plain, told, unavailable,
    until,
};

/// A link to a picture of its own for each attempt.
fn numbered(number: usize) -> Finding {
    // It expires 100 days after the beginning.
    link_to(&format!("https://pps.whatsapp.net/v/t61.24694-24/{number}_2_3_n.jpg?oe=69e5d400"))
}

fn numbers(attempt: &Attempt) -> Reply {
    Reply::says(Ok(numbered(attempt.number)))
}

/// Any answer may be asked for again at once.
fn without_floor(entries: usize) -> Settings {
    let cache = CacheSettings { refresh_floor: Duration::ZERO, entries, ..CacheSettings::default() };
    Settings { cache, ..plain() }
}

fn finding(outcome: &Outcome) -> &Finding {
    &outcome.as_ref().unwrap().finding
}

const ROOM: usize = 1_000;

#[tokio::test]
async fn cold_contacts_asked_of_all_replicas_at_once_are_fetched_once() {
    for entries in [ROOM, 0] {
        let replicas = Replicas::new(|attempt| numbers(attempt).after(millis(300)));
        let fronts = [
            replicas.one_with(without_floor(entries)).await,
            replicas.one_with(without_floor(entries)).await,
            replicas.one_with(without_floor(entries)).await,
        ];
        let asks = (0..40).flat_map(|chat| fronts.iter().map(move |front| front.spawn(contact(chat))));
        let asks: Vec<_> = asks.collect();
        for ask in asks {
            ask.await.unwrap().unwrap();
        }
        assert_eq!(replicas.calls(), 40, "with {entries} entries");
    }
}

#[tokio::test]
async fn a_caller_that_joined_decides_for_itself_about_an_answer_of_the_store() {
    for entries in [ROOM, 0] {
        let replicas = Replicas::new(numbers);
        let [writer, reader] = [
            replicas.one_with(without_floor(entries)).await,
            replicas.one_with(without_floor(entries)).await,
        ];
        writer.ask(contact(1)).await.unwrap();
        until(&reader, contact(1).only_if_cached(), Outcome::is_ok).await;
        sleep(millis(1_200)).await;

        let reader = replicas.one_with(without_floor(entries)).await;
        let asks = [contact(1), contact(1).max_age(SECOND)];
        let outcomes = reader.ask_all(asks).await;
        assert_eq!(told(&outcomes[0]), Ok(CacheStatus::Hit));
        assert_eq!(finding(&outcomes[0]), &numbered(1));
        assert!(outcomes[0].as_ref().unwrap().cache.age > SECOND, "the age is that of the answer");
        assert_eq!(told(&outcomes[1]), Ok(CacheStatus::Refreshed));
        assert_eq!(finding(&outcomes[1]), &numbered(2));
        assert_eq!(replicas.calls(), 2, "with {entries} entries");
    }
}

#[tokio::test]
async fn a_null_displaces_no_living_link_that_only_the_store_knew() {
    for entries in [ROOM, 0] {
        let replicas = Replicas::new(|attempt| match attempt.number {
            1 => numbers(attempt),
            _ => Reply::null(),
        });
        let writer = replicas.one_with(without_floor(entries)).await;
        writer.ask(contact(1)).await.unwrap();
        let doubter = replicas.one_with(without_floor(entries)).await;
        until(&doubter, contact(1).only_if_cached(), Outcome::is_ok).await;

        let doubter = replicas.one_with(without_floor(entries)).await;
        let outcome = doubter.ask(contact(1).anew()).await;
        assert_eq!((replicas.calls(), told(&outcome)), (2, Ok(CacheStatus::Stale)), "{entries} entries");
        assert_eq!(finding(&outcome), &numbered(1));
        // The doubt is written, too. The next replica serves the link, and counts the second null.
        let next = replicas.one_with(without_floor(entries)).await;
        let is_stale = |outcome: &Outcome| told(outcome) == Ok(CacheStatus::Stale);
        until(&next, contact(1).only_if_cached(), is_stale).await;
        let next = replicas.one_with(without_floor(entries)).await;
        assert_eq!(told(&next.ask(contact(1)).await), Ok(CacheStatus::Stale));
        assert_eq!(replicas.calls(), 2);
        let second = next.ask(contact(1).anew()).await;
        assert!(matches!(finding(&second), Finding::Absent(_)), "with {entries} entries");
    }
}

#[tokio::test]
async fn a_token_that_one_replica_sees_rejected_hides_its_answers_everywhere() {
    let replicas = Replicas::new(|attempt| match attempt.number {
        2 => Reply::fails(LookupError::CredentialsRejected(Rejected::Own)),
        _ => numbers(attempt),
    });
    let [first, second, _] = replicas.three().await;
    first.ask(contact(1)).await.unwrap();
    until(&second, contact(1).only_if_cached(), Outcome::is_ok).await;
    let trusts = [first.trust(contact(1)), second.trust(contact(1))];
    assert!(trusts.iter().all(Trust::holds));

    let rejected = first.ask(contact(2)).await;
    assert_eq!(told(&rejected), Err(LookupError::CredentialsRejected(Rejected::Own)));
    let not_cached = |outcome: &Outcome| told(outcome) == Err(LookupError::NotCached);
    assert!(not_cached(&first.ask(contact(1).only_if_cached()).await));
    until(&second, contact(1).only_if_cached(), not_cached).await;
    let new = replicas.one().await;
    until(&new, contact(1).only_if_cached(), not_cached).await;
    // The cool-down of the token is shared, and ends with the next answer.
    assert_eq!(told(&second.ask(contact(3)).await), told(&rejected));
    assert_eq!(replicas.calls(), 2);
    until(&second, contact(3), Outcome::is_ok).await;
    until(&new, contact(3).only_if_cached(), Outcome::is_ok).await;
    assert!(!trusts.iter().any(Trust::holds), "the token was rejected meanwhile");
    assert!(second.trust(contact(1)).holds());
}

#[tokio::test]
async fn a_cool_down_holds_on_all_replicas() {
    let replicas = Replicas::new(|attempt| match attempt.of_key {
        1 if attempt.chat.ends_with('2') => Reply::fails(unavailable()).after(millis(100)),
        _ => numbers(attempt),
    });
    let fronts = replicas.three().await;
    // Nothing is shared for a token that never had an answer.
    fronts[0].ask(contact(1)).await.unwrap();
    until(&fronts[1], contact(1).only_if_cached(), Outcome::is_ok).await;
    let outcomes = futures_util::future::join_all(fronts.iter().map(|front| front.ask(contact(2)))).await;
    assert_eq!(count(&outcomes, |outcome| matches!(told(outcome), Err(LookupError::Unavailable { .. }))), 3);
    assert_eq!(replicas.calls(), 2);
    until(&fronts[2], contact(2), Outcome::is_ok).await;
}

#[tokio::test]
async fn a_caller_that_wants_no_fetch_gets_what_another_replica_fetched() {
    let replicas = Replicas::new(numbers);
    let [first, second, _] = replicas.three().await;
    first.ask(contact(1)).await.unwrap();
    until(&second, contact(1).only_if_cached(), |read| told(read) == Ok(CacheStatus::Hit)).await;
    assert_eq!(told(&second.ask(contact(2).only_if_cached()).await), Err(LookupError::NotCached));
    assert_eq!(replicas.calls(), 1);
    // It took no lease that anyone would wait for.
    first.ask(contact(2).within(2 * SECOND)).await.unwrap();
}

#[tokio::test]
async fn a_link_to_a_host_that_is_not_allowed_any_more_is_not_read() {
    let replicas = Replicas::new(numbers);
    let first = replicas.one().await;
    first.ask(contact(1)).await.unwrap();
    let second = replicas.one().await;
    until(&second, contact(1).only_if_cached(), Outcome::is_ok).await;
    let cache = CacheSettings { link_hosts: "mmg.whatsapp.net".parse().unwrap(), ..CacheSettings::default() };
    let strict = replicas.one_with(Settings { cache, ..plain() }).await;
    let outcome = strict.ask(contact(1).only_if_cached()).await;
    assert_eq!(told(&outcome), Err(LookupError::NotCached));
    strict.ask(contact(1)).await.unwrap();
    assert_eq!(replicas.calls(), 2);
}
