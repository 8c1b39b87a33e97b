//! Replicas hear of changes, and renew a stale answer together.

use std::time::Duration;

use hypersender_grpc::{
    domain::CacheStatus,
    stack::{CacheSettings, Settings},
};
use tokio::time::sleep;

use super::{ROOM, finding, numbered, numbers, without_floor};
use crate::support::{Outcome, Replicas, Reply, SECOND, contact, count, link_to, millis, plain, told, until};

#[tokio::test]
async fn another_picture_drops_the_old_one_everywhere_and_another_signature_does_not() {
    let signed = |oe: &str| link_to(&format!("https://pps.whatsapp.net/v/t61.24694-24/9_9_9_n.jpg?oe={oe}"));
    let replicas = Replicas::new(move |attempt| match attempt.of_key {
        of_key if attempt.chat.ends_with('1') => {
            Reply::says(Ok(signed(if of_key == 1 { "69e5d400" } else { "69e5d4ff" })))
        }
        _ => numbers(attempt).after(millis(100)),
    });
    let [first, second] =
        [replicas.one_with(without_floor(ROOM)).await, replicas.one_with(without_floor(ROOM)).await];
    for chat in [1, 2] {
        first.ask(contact(chat)).await.unwrap();
        until(&second, contact(chat), |outcome| told(outcome) == Ok(CacheStatus::Hit)).await;
    }
    // The second replica may not listen yet.
    let mut latest = numbered(2);
    while *finding(&second.ask(contact(2)).await) == numbered(2) {
        sleep(millis(200)).await;
        latest = first.ask(contact(2).anew()).await.unwrap().finding;
        assert!(replicas.calls() < 100, "the second replica hears nothing");
    }
    until(&second, contact(2), |outcome| *finding(outcome) == latest).await;
    // Contact 1 gets another signature, and then contact 2 another picture.
    sleep(millis(200)).await;
    first.ask(contact(1).anew()).await.unwrap();
    let latest = first.ask(contact(2).anew()).await.unwrap().finding;
    let calls = replicas.calls();
    until(&second, contact(2), |outcome| *finding(outcome) == latest).await;
    assert_eq!(*finding(&second.ask(contact(1)).await), signed("69e5d400"));
    assert_eq!(replicas.calls(), calls);
}

#[tokio::test]
async fn a_stale_answer_is_renewed_by_one_replica() {
    let replicas = Replicas::new(|attempt| numbers(attempt).after(SECOND));
    let settings = || {
        let ttl = millis(1_500);
        let cache = CacheSettings { ttl, refresh_floor: Duration::ZERO, ..CacheSettings::default() };
        Settings { cache, ..plain() }
    };
    let fronts = [
        replicas.one_with(settings()).await,
        replicas.one_with(settings()).await,
        replicas.one_with(settings()).await,
    ];
    for front in &fronts {
        front.ask(contact(1)).await.unwrap();
    }
    assert_eq!(replicas.calls(), 1);
    sleep(millis(1_600)).await;
    let stale = futures_util::future::join_all(fronts.iter().map(|front| front.ask(contact(1)))).await;
    assert_eq!(count(&stale, |outcome| told(outcome) == Ok(CacheStatus::Stale)), 3);
    let renewed = |outcome: &Outcome| *finding(outcome) == numbered(2);
    until(&fronts[0], contact(1).only_if_cached(), renewed).await;
    assert_eq!(replicas.calls(), 2);
}
