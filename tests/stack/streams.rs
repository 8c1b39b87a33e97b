//! Streams of look-ups: memory first, then spare turns; how they end.

mod obstacles;
mod shares;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use hypersender_grpc::{
    domain::{CacheStatus, LookupError, Rejected},
    stack::{Forecast, RateSettings, Settings},
};
use tokio::{
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};

use crate::support::*;

/// One attempt for each fetch, and this many turns a second.
fn paced(per_second: f64) -> Settings {
    Settings { rate: RateSettings { per_second, burst: 20 }, ..plain() }
}

/// Checks that attempts are at least this far apart, in milliseconds.
fn assert_apart(times: &[u128], millis: u128) {
    let close: Vec<_> = times.windows(2).filter(|pair| pair[1] - pair[0] < millis).collect();
    assert!(close.is_empty(), "{close:?}");
}

#[tokio::test(start_paused = true)]
async fn memory_is_served_first_and_the_rest_takes_spare_turns_alone() {
    let front = Front::new(paced(50.0), |_| Reply::picture().after(millis(100)));
    assert_eq!(front.look_up(contacts(0..9_000)).await.unwrap().answers(), 9_000);
    assert_apart(&front.upstream.times(), 20);
    let (calls, time) = (front.calls(), front.time());
    assert_eq!(calls, 9_000);
    // Those that are not stored come first in the list.
    let ended = front.look_up(contacts((0..10_000).rev())).await.unwrap();
    assert_eq!((ended.answers(), ended.error.clone()), (10_000, None));
    let hits =
        ended.results.values().filter(|(outcome, at)| told(outcome) == Ok(CacheStatus::Hit) && *at == time);
    assert_eq!(hits.count(), 9_000);
    assert_eq!(front.calls() - calls, 1_000);
    // A stream never uses the burst, not even after a quiet time.
    assert_apart(&front.upstream.times(), 20);
    assert!(
        front.upstream.times()[calls..].windows(2).all(|pair| pair[1] - pair[0] <= 22),
        "it is not slower"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_another_call_has_fetched_meanwhile_takes_no_turn() {
    let front = Front::new(paced(1.0), |_| Reply::picture());
    let [first, second] = [0..100, 0..100].map(|chats| front.look_up(contacts(chats)));
    assert_eq!((first.await.unwrap().answers(), second.await.unwrap().answers()), (100, 100));
    assert_eq!(front.calls(), 100);
    assert!(front.time() < 102 * SECOND, "{:?}", front.time());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_cached_answers_only() {
    let front = Front::new(paced(5.0), |_| Reply::picture());
    front.ask(contact(1)).await.unwrap();
    let ended = front.look_up(contacts(0..300).only_if_cached()).await.unwrap();
    assert_eq!((ended.answers(), ended.results.len(), front.calls()), (1, 300, 1));
    assert!(ended.errors().iter().all(|error| *error == LookupError::NotCached));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_contacts_ends_at_once() {
    let front = Front::new(paced(5.0), |_| Reply::picture());
    let mut stream = front.stream(contacts([]));
    assert!(stream.next().await.is_none());
    assert!(stream.next().await.is_none());
    assert_eq!(stream.forecast(), Forecast::default());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_or_an_instance_without_connection_ends_the_stream() {
    for error in [LookupError::CredentialsRejected(Rejected::Own), LookupError::InstanceNotConnected] {
        let fails = error.clone();
        let front = Front::new(paced(5.0), move |attempt| match attempt.number {
            1..=3 => Reply::picture(),
            _ => Reply::fails(fails.clone()),
        });
        let ended = front.look_up(contacts(0..100)).await.unwrap();
        assert_eq!((ended.answers(), ended.results.len(), ended.error), (3, 3, Some(error.clone())));
        assert_eq!(front.calls(), 4);
        // A second stream ends by the cool-down of the first, without a request.
        let ended = front.look_up(contacts(100..200)).await.unwrap();
        assert_eq!((ended.results.len(), ended.error, front.calls()), (0, Some(error), 4));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_concern_one_contact_are_its_result() {
    for error in [LookupError::RequestRejected, LookupError::ResponseInvalid, LookupError::Internal] {
        let fails = error.clone();
        let front = Front::new(paced(5.0), move |attempt| match attempt.number % 2 {
            0 => Reply::picture(),
            _ => Reply::fails(fails.clone()),
        });
        let ended = front.look_up(contacts(0..20)).await.unwrap();
        assert_eq!((ended.answers(), ended.results.len(), front.calls()), (10, 20, 20));
        assert!(ended.errors().iter().all(|found| *found == error));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_stopped_finishes_what_is_in_progress() {
    let front = Front::new(paced(5.0), |_| Reply::picture().after(2 * SECOND));
    let mut stream = front.stream(contacts(0..100));
    assert!(timeout(millis(1_100), stream.next()).await.is_err());
    assert_eq!(front.calls(), 6);
    stream.stop();
    let ended = front.read(&mut *stream).await;
    assert_eq!((ended.answers(), ended.results.len(), ended.error, front.calls()), (6, 6, None, 6));
    assert!(ended.results.values().all(|(_, at)| *at <= millis(3_100)));
    // Before its first look-up, and in the middle of memory.
    let mut stream = front.stream(contacts(0..100));
    assert!(stream.next().await.is_some());
    stream.stop();
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn fetches_on_the_wire_are_stored_after_a_stream_is_dropped() {
    let front = Front::new(paced(5.0), |_| Reply::picture().after(2 * SECOND));
    let stream = front.look_up(contacts(0..100));
    sleep(millis(1_100)).await;
    stream.abort();
    sleep(MINUTE).await;
    assert_eq!((front.calls(), front.cache.len()), (6, 6));
    // The queue of the instance is free.
    assert_eq!(front.look_up(contacts(50..60)).await.unwrap().answers(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline() {
    let front = Front::new(paced(5.0), |_| Reply::picture());
    let ended = front.look_up(contacts(0..100).within(10 * SECOND)).await.unwrap();
    assert_eq!(ended.error, Some(LookupError::DeadlineExceeded));
    assert_eq!((ended.results.len(), ended.answers(), front.calls()), (50, 50, 50));
    assert_eq!(front.time(), 10 * SECOND);
    // Also while it waits for nothing but look-ups in progress.
    let front = Front::new(paced(5.0), |_| Reply::picture().after(DAY));
    let ended = front.look_up(contacts(0..3).within(5 * SECOND)).await.unwrap();
    assert_eq!((ended.error, front.time()), (Some(LookupError::DeadlineExceeded), 5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn no_result_is_lost_when_a_wait_for_the_next_one_is_given_up() {
    let front = Front::new(paced(5.0), |_| Reply::picture().after(millis(70)));
    let mut stream = front.stream(contacts(0..200));
    let mut found = 0;
    loop {
        match timeout(millis(3), stream.next()).await {
            Ok(None) => break,
            Ok(Some(next)) => found += usize::from(next.unwrap().result.is_ok()),
            Err(_) => {}
        }
    }
    assert_eq!((found, front.calls()), (200, 200));
    assert!(front.time() <= 41 * SECOND, "{:?}", front.time());
}

#[tokio::test(start_paused = true)]
async fn the_forecast_names_the_next_turn() {
    let front = Front::new(paced(0.1), |_| Reply::picture());
    let mut stream = front.stream(contacts(0..3));
    assert!(stream.next().await.is_some());
    assert!(timeout(SECOND, stream.next()).await.is_err());
    let start = Instant::now() - SECOND;
    let next_turn = Some(start + 10 * SECOND);
    assert_eq!(stream.forecast(), Forecast { next_turn, paused_until: None });
    advance(20 * SECOND).await;
    assert_eq!(stream.forecast(), Forecast { next_turn: Some(Instant::now()), paused_until: None });
    stream.stop();
    assert_eq!(stream.forecast(), Forecast::default());
}

#[tokio::test(start_paused = true)]
async fn other_tasks_run_while_memory_is_served() {
    let front = Front::new(paced(0.0), |_| Reply::picture());
    assert_eq!(front.look_up(contacts(0..2_000)).await.unwrap().answers(), 2_000);
    let mut stream = front.stream(contacts(0..2_000));
    let yields = Arc::new(AtomicUsize::new(0));
    let counter = tokio::spawn({
        let yields = yields.clone();
        async move {
            loop {
                yields.fetch_add(1, Relaxed);
                yield_now().await;
            }
        }
    });
    assert_eq!(front.read(&mut *stream).await.answers(), 2_000);
    counter.abort();
    let yields = yields.load(Relaxed);
    assert!((7..=9).contains(&yields), "{yields}");
}
