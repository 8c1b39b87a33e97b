//! The round trips of look-ups to the store, as its server counts them: none for a hit, and three for a cold
//! miss that does not wait.

use std::time::Duration;

use hypersender_grpc::{
    domain::CacheStatus,
    stack::{RateSettings, Settings},
};
use tokio::time::{Instant, sleep};

use crate::support::{
    Ask, Front, Outcome, Replicas, Reply, SECOND, contact, contacts, count, millis, plain, told,
};

/// The number of contacts.
const CONTACTS: usize = 20;
/// The scripts of a cold miss: a read that takes the lease, the turn, and the write that releases the lease.
const MISS: usize = 3;
/// The scripts of the start of a replica, and the message with which it asks what it may have missed.
const START: usize = 4;
const NO_RATE: RateSettings = RateSettings { per_second: 0.0, burst: 0 };
/// A turn each two thirds of a second. A wait for the next one is too short for a renewal of the lease.
const SLOW: RateSettings = RateSettings { per_second: 1.5, burst: 1 };
/// The longest wait for work in the background.
const EVENTUALLY: Duration = Duration::from_secs(10);
/// Nothing in the background comes later than this.
const QUIET: Duration = Duration::from_millis(300);

/// A replica, and a store that has an answer of the token and knows the scripts of a cold miss. The first use
/// of a script takes a second trip.
async fn warm(rate: RateSettings) -> (Replicas, Front) {
    let replicas = Replicas::new(|_| Reply::picture());
    let front = one(&replicas, rate).await;
    front.ask(contact(CONTACTS)).await.unwrap();
    scripts_after(&replicas, START + 2 * MISS).await;
    replicas.server.command::<()>(&["CONFIG", "RESETSTAT"]).await;
    (replicas, front)
}

/// A replica that has begun to hear of the others.
async fn one(replicas: &Replicas, rate: RateSettings) -> Front {
    let subscribers = subscribers(replicas).await;
    let front = replicas.one_with(Settings { rate, ..plain() }).await;
    // A replica that has subscribed reads the records of the tokens in its memory, which has none yet.
    let end = Instant::now() + EVENTUALLY;
    while self::subscribers(replicas).await == subscribers {
        assert!(Instant::now() < end, "it does not subscribe");
        sleep(millis(10)).await;
    }
    sleep(QUIET).await;
    front
}

async fn subscribers(replicas: &Replicas) -> usize {
    replicas.server.command::<(String, usize)>(&["PUBSUB", "NUMSUB", "test:news"]).await.1
}

/// The scripts that the server has run, and the messages that it has passed on.
async fn scripts(replicas: &Replicas) -> usize {
    let text: String = replicas.server.command(&["INFO", "commandstats"]).await;
    let calls = ["evalsha", "eval", "publish"].into_iter().filter_map(|name| {
        let counts = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")))?;
        counts.split(',').next()?.parse::<usize>().ok()
    });
    calls.sum()
}

/// The scripts after all work in the background, of which there are at least `least`.
async fn scripts_after(replicas: &Replicas, least: usize) -> usize {
    let end = Instant::now() + EVENTUALLY;
    while scripts(replicas).await < least {
        assert!(Instant::now() < end, "there are fewer than {least}");
        sleep(millis(10)).await;
    }
    sleep(QUIET).await;
    scripts(replicas).await
}

async fn ask_all(front: &Front, asks: impl IntoIterator<Item = Ask>, status: CacheStatus) {
    check(&front.ask_all(asks).await, status);
}

fn check(outcomes: &[Outcome], status: CacheStatus) {
    assert_eq!(count(outcomes, |outcome| told(outcome) == Ok(status)), outcomes.len());
}

#[tokio::test]
async fn a_cold_miss_that_does_not_wait_takes_three_trips() {
    let (replicas, front) = warm(NO_RATE).await;
    ask_all(&front, (0..CONTACTS).map(contact), CacheStatus::Miss).await;
    assert_eq!(scripts_after(&replicas, MISS * CONTACTS).await, MISS * CONTACTS);
}

#[tokio::test]
async fn a_cold_miss_that_waited_for_its_turn_asks_once_more() {
    let (replicas, front) = warm(SLOW).await;
    // Then the first turn is free.
    sleep(SECOND).await;
    ask_all(&front, [contact(0), contact(1)], CacheStatus::Miss).await;
    let expected = 2 * MISS + 1;
    assert_eq!(scripts_after(&replicas, expected).await, expected);
}

#[tokio::test]
async fn a_hit_takes_no_trip() {
    let (replicas, front) = warm(NO_RATE).await;
    ask_all(&front, (0..CONTACTS).map(contact), CacheStatus::Miss).await;
    let before = scripts_after(&replicas, MISS * CONTACTS).await;

    ask_all(&front, (0..5 * CONTACTS).map(|number| contact(number % CONTACTS)), CacheStatus::Hit).await;
    ask_all(&front, (0..CONTACTS).map(|chat| contact(chat).only_if_cached()), CacheStatus::Hit).await;
    check(&front.batch((0..CONTACTS).map(contact)).await.unwrap(), CacheStatus::Hit);
    let stream = front.look_up(contacts(0..CONTACTS)).await.unwrap();
    assert_eq!((stream.error, stream.results.len()), (None, CONTACTS));
    assert_eq!(scripts_after(&replicas, 0).await, before);
    assert_eq!(replicas.calls(), 1 + CONTACTS);
}

#[tokio::test]
async fn a_contact_that_another_replica_fetched_takes_one_trip_and_a_batch_of_them_too() {
    let (replicas, writer) = warm(NO_RATE).await;
    ask_all(&writer, (0..CONTACTS).map(contact), CacheStatus::Miss).await;
    let mut trips = scripts_after(&replicas, MISS * CONTACTS).await;

    let reader = one(&replicas, NO_RATE).await;
    ask_all(&reader, (0..CONTACTS).map(contact), CacheStatus::Hit).await;
    trips += START + CONTACTS;
    assert_eq!(scripts_after(&replicas, trips).await, trips);

    // The first use of a script takes a second trip.
    for batch in [2, 1] {
        let reader = one(&replicas, NO_RATE).await;
        check(&reader.batch((0..CONTACTS).map(contact)).await.unwrap(), CacheStatus::Hit);
        trips += START + batch;
        assert_eq!(scripts_after(&replicas, trips).await, trips);
    }
    assert_eq!(replicas.calls(), 1 + CONTACTS);
}
