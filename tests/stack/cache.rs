//! The content of the cache, the answers from it, and its bounds (rules 5 to 11 and 25).

use std::time::{Duration, SystemTime};

use hypersender_grpc::{
    domain::{CacheStatus, LookupError, Ttl},
    stack::{CacheSettings, Settings},
};
use tokio::time::{advance, sleep};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_it_came_about() {
    let front = Front::new(plain(), |_| Reply::null());
    for (after_seconds, ask, status, age, ttl) in [
        (0, contact(1), CacheStatus::Miss, 0, Ttl::Left(600 * SECOND)),
        (100, contact(1), CacheStatus::Hit, 100, Ttl::Left(500 * SECOND)),
        (0, contact(1).anew(), CacheStatus::Refreshed, 0, Ttl::Left(600 * SECOND)),
        (29, contact(1).anew(), CacheStatus::Hit, 29, Ttl::Left(571 * SECOND)),
        (571, contact(1).only_if_cached(), CacheStatus::Stale, 600, Ttl::Left(Duration::ZERO)),
        (7, contact(1).only_if_cached(), CacheStatus::Stale, 607, Ttl::Past(7 * SECOND)),
        (DAY.as_secs(), contact(1), CacheStatus::Expired, 0, Ttl::Left(600 * SECOND)),
    ] {
        advance(Duration::from_secs(after_seconds)).await;
        let info = front.ask(ask.clone()).await.unwrap().cache;
        assert_eq!((info.status, info.age.as_secs(), info.ttl), (status, age, ttl), "{ask:?}");
    }
    assert_eq!(front.calls(), 3);
    assert_eq!(told(&front.ask(contact(2).only_if_cached()).await), Err(LookupError::NotCached));
}

#[tokio::test(start_paused = true)]
async fn no_link_is_handed_out_after_its_end_whoever_signed_it() {
    let end = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap() + 1_200 * SECOND;
    let laravel = format!("https://h/p.jpg?expires={}&signature=0a1b", end.as_secs());
    for (link, last_second) in [
        (laravel.as_str(), 19 * 60 - 1),
        // The test begins at 2026-01-09T23:06:40Z.
        ("https://h/p.jpg?X-Amz-Date=20260109T230640Z&X-Amz-Expires=1200&X-Amz-Signature=0a1b", 19 * 60 - 1),
        // The expiry of this link is unknown, so that it is trusted for a quarter of an hour.
        ("https://h/p.jpg?signature=0a1b", 15 * 60 - 1),
        ("https://h/p.jpg?expires=soon&signature=0a1b", 15 * 60 - 1),
    ] {
        let finding = link_to(link);
        let front = Front::new(plain(), move |attempt| match attempt.of_key {
            1 => Reply::says(Ok(finding.clone())),
            _ => Reply::fails(unavailable()),
        });
        front.ask(contact(1)).await.unwrap();
        advance(Duration::from_secs(last_second)).await;
        let answer = front.ask(contact(1)).await;
        assert!(answer.is_ok(), "{link}: {answer:?}");
        settle().await;
        // From then on, the link does not even replace an error.
        advance(SECOND).await;
        let failed = front.ask(contact(1)).await;
        assert!(matches!(failed, Err(LookupError::Unavailable { .. })), "{link}: {failed:?}");
        assert_eq!(
            told(&front.ask(contact(1).only_if_cached()).await),
            Err(LookupError::NotCached),
            "{link}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn answers_fetched_together_do_not_expire_together() {
    let front = Front::new(plain(), |_| Reply::picture());
    let outcomes = front.ask_all((0..100).map(contact)).await;
    let mut lives: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome.unwrap().cache.ttl {
            Ttl::Left(left) => left,
            Ttl::Past(_) => panic!("it was fetched just now"),
        })
        .collect();
    lives.sort();
    assert!(lives[0] >= HOUR * 9 / 10 && lives[99] <= HOUR);
    assert!(lives[99] - lives[0] > Duration::from_secs(180), "{lives:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_renewed_once_in_the_background() {
    let front = Front::new(unlimited(), |_| Reply::picture().after(SECOND));
    front.ask(contact(1)).await.unwrap();
    advance(HOUR).await;
    for _ in 0..3 {
        let time = front.time();
        let outcomes = front.ask_all((0..100).map(|_| contact(1))).await;
        assert_eq!(count(&outcomes, |outcome| told(outcome) == Ok(CacheStatus::Stale)), 100);
        assert_eq!(front.time(), time, "nobody waits");
        settle().await;
    }
    sleep(2 * SECOND).await;
    assert_eq!(front.calls(), 2);
    let answer = front.ask(contact(1)).await.unwrap();
    assert_eq!((answer.cache.status, answer.cache.age), (CacheStatus::Hit, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_in_the_background_makes_one_attempt() {
    let front = Front::new(unlimited(), |attempt| match attempt.of_key {
        1 => Reply::picture(),
        _ => Reply::fails(unavailable()),
    });
    front.ask(contact(1)).await.unwrap();
    advance(HOUR).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    sleep(millis(900)).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    settle().await;
    assert_eq!(front.calls(), 2, "it cools down");
    sleep(SECOND).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    settle().await;
    assert_eq!(front.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn within_the_floor_a_key_is_not_fetched_again() {
    // The first link is close to its last minute when it arrives, and the others are in it.
    for end in [Duration::from_secs(90), Duration::from_secs(60), Duration::ZERO] {
        let front = Front::new(plain(), move |_| Reply::says(Ok(link(end))));
        front.ask(contact(1)).await.unwrap();
        advance(Duration::from_secs(29)).await;
        assert_eq!(told(&front.ask(contact(1).anew()).await), Ok(CacheStatus::Hit), "{end:?}");
        advance(SECOND).await;
        assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Expired), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_null_leaves_a_living_link_in_place_once() {
    let front = Front::new(plain(), |attempt| match attempt.of_key {
        1 => Reply::picture(),
        _ => Reply::null(),
    });
    let picture = front.ask(contact(1)).await.unwrap().finding;
    advance(2 * HOUR).await;
    for _ in 0..2 {
        let answer = front.ask(contact(1)).await.unwrap();
        assert_eq!((answer.cache.status, &answer.finding), (CacheStatus::Stale, &picture));
        advance(Duration::from_secs(599)).await;
    }
    assert_eq!(front.calls(), 2, "in doubt as long as a null is kept");
    advance(SECOND).await;
    let answer = front.ask(contact(1)).await.unwrap();
    assert_eq!(answer.cache.status, CacheStatus::Expired);
    assert_ne!(answer.finding, picture);
}

/// Looks up 10,000 contacts with these bounds of the cache, and returns the number of entries that are left.
async fn check_bounds(entries: usize, bytes: usize) -> usize {
    let cache = CacheSettings { entries, bytes, ..CacheSettings::default() };
    let front = Front::new(Settings { cache, ..plain() }, |_| Reply::picture());
    for first in (0..10_000).step_by(100) {
        front.ask_all((first..first + 100).map(contact)).await;
        assert!(front.cache.len() <= entries, "{entries} entries: {}", front.cache.len());
        assert!(front.cache.bytes() <= bytes, "{bytes} bytes: {}", front.cache.bytes());
    }
    assert_eq!(front.calls(), 10_000);
    assert_eq!(front.cache.is_empty(), front.cache.bytes() == 0);
    front.cache.len()
}

#[tokio::test(start_paused = true)]
async fn the_cache_stays_within_its_bounds() {
    assert_eq!(check_bounds(1_000, usize::MAX).await, 1_000);
    let left = check_bounds(usize::MAX, 100 << 10).await;
    assert!((100..1_000).contains(&left), "{left}");
    assert_eq!(check_bounds(0, usize::MAX).await, 0);
    assert_eq!(check_bounds(usize::MAX, 0).await, 0);
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_stored() {
    let front = Front::new(plain(), |_| Reply::fails(unavailable()));
    front.ask_all((0..100).map(contact)).await;
    assert!(front.cache.is_empty());
}
