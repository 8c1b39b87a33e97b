//! A flight works on the terms of the highest purpose among its present waiters.

use std::time::Duration;

use hypersender_grpc::{
    domain::{Again, BatchTurns, CacheStatus, LookupError},
    stack::{BreakerSettings, RetrySettings, Settings},
};
use tokio::time::{advance, sleep};

use super::limited;
use crate::support::*;

fn retrying(per_second: f64, burst: u32) -> Settings {
    Settings { retry: RetrySettings { attempts: 2, budget: 1.0 }, ..limited(per_second, burst) }
}

/// Contact 1 fails at first, after half a second. All else is answered at once.
fn fails_at_first(attempt: &Attempt) -> Reply {
    match (attempt.chat.ends_with("01"), attempt.of_key) {
        (true, 1) => Reply::fails(unavailable()).after(millis(500)),
        _ => Reply::picture(),
    }
}

/// A stream whose retry waits for a spare turn until 6 s, because callers have used a part of the burst.
async fn stream_with_a_waiting_retry(front: &Front) -> tokio::task::JoinHandle<Outcome> {
    let stream = front.spawn(contact(1).in_stream().within(30 * SECOND));
    settle().await;
    front.ask_all((10..15).map(contact)).await;
    sleep(SECOND).await;
    assert_eq!(front.calls(), 6);
    stream
}

#[tokio::test(start_paused = true)]
async fn the_retry_of_a_stream_alone_waits_for_a_spare_turn() {
    let front = Front::new(retrying(1.0, 20), fails_at_first);
    let stream = stream_with_a_waiting_retry(&front).await;
    assert_eq!(told(&stream.await.unwrap()), Ok(CacheStatus::Miss));
    assert_eq!(front.time(), 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_joins_the_waiting_retry_of_a_stream_gets_a_callers_turn_at_once() {
    let front = Front::new(retrying(1.0, 20), fails_at_first);
    let stream = stream_with_a_waiting_retry(&front).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Miss));
    assert_eq!((front.time(), stream.await.unwrap().is_ok()), (SECOND, true));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_its_purpose_away() {
    let front = Front::new(retrying(1.0, 20), fails_at_first);
    let stream = front.spawn(contact(1).in_stream().within(30 * SECOND));
    settle().await;
    front.ask_all((10..15).map(contact)).await;
    let caller = front.spawn(contact(1));
    sleep(millis(300)).await;
    caller.abort();
    assert!(stream.await.unwrap().is_ok());
    assert_eq!(front.time(), 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_joins_the_flight_of_a_caller_has_a_callers_terms_while_that_one_stays() {
    for (stays, end) in [(true, millis(1_500)), (false, 6 * SECOND)] {
        let front = Front::new(retrying(1.0, 20), |attempt| match attempt.of_key {
            1 if attempt.chat.ends_with("01") => Reply::fails(unavailable()).after(SECOND),
            _ => Reply::picture(),
        });
        let caller = front.spawn(contact(1));
        settle().await;
        front.ask_all((10..15).map(contact)).await;
        let stream = front.spawn(contact(1).in_stream());
        sleep(millis(900)).await;
        if !stays {
            caller.abort();
        }
        assert_eq!(told(&stream.await.unwrap()), Ok(CacheStatus::Miss));
        assert!(front.time() <= end, "{:?}", front.time());
        assert_eq!(front.time() == end, !stays);
    }
}

/// Checks a caller that joins a refresh and stays or leaves. The refresh fails at its only attempt.
async fn check_joined_refresh(reader: impl Fn(Ask) -> Ask, joins: bool, leaves: bool, calls: usize) {
    let front = Front::new(retrying(5.0, 20), |attempt| match attempt.of_key {
        2 => Reply::fails(unavailable()).after(SECOND),
        _ => Reply::picture(),
    });
    front.ask(contact(1)).await.unwrap();
    advance(HOUR).await;
    assert_eq!(told(&front.ask(reader(contact(1))).await), Ok(CacheStatus::Stale));
    settle().await;
    assert_eq!(front.calls(), 2, "the refresh is on the wire");
    let caller = joins.then(|| front.spawn(contact(1).stale_if_error(Duration::ZERO)));
    sleep(millis(500)).await;
    if leaves {
        caller.iter().for_each(tokio::task::JoinHandle::abort);
    }
    sleep(3 * SECOND).await;
    assert_eq!(front.calls(), calls);
    if let Some(caller) = caller.filter(|_| !leaves) {
        assert_eq!(told(&caller.await.unwrap()), Ok(CacheStatus::Expired));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_joins_a_refresh_gets_a_callers_retries() {
    let batch = BatchTurns::new(None);
    for reader in
        [&(|ask| ask) as &dyn Fn(Ask) -> Ask, &|ask: Ask| ask.in_stream(), &|ask: Ask| ask.in_batch(&batch)]
    {
        check_joined_refresh(reader, false, false, 2).await;
        check_joined_refresh(reader, true, false, 3).await;
        check_joined_refresh(reader, true, true, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_asks_for_a_waiting_contact_of_a_batch_books_at_once() {
    for joins in [false, true] {
        let front = Front::new(limited(1.0, 1), |_| Reply::picture());
        let batch = front.batch((0..20).map(|chat| contact(chat).within(30 * SECOND)));
        sleep(millis(500)).await;
        let caller = joins.then(|| front.spawn(contact(15)));
        if let Some(caller) = caller {
            assert_eq!(told(&caller.await.unwrap()), Ok(CacheStatus::Miss));
            assert_eq!(front.time(), 6 * SECOND);
        }
        assert_eq!(count(&batch.await.unwrap(), Result::is_ok), 20);
        assert_eq!(front.time(), 19 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_joins_the_flight_of_a_stream_books_like_a_caller() {
    let front = Front::new(retrying(1.0, 20), fails_at_first);
    let stream = stream_with_a_waiting_retry(&front).await;
    let outcome = front.ask(contact(1).in_batch(&BatchTurns::new(None))).await;
    assert_eq!((told(&outcome), front.time()), (Ok(CacheStatus::Miss), SECOND));
    assert!(stream.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_beside_a_stream_that_finds_no_turn_yet_is_never_held_to_that() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    front.ask(contact(9)).await.unwrap();
    // Each order of the two: the flight of the stream has decided, or not yet.
    for chat in 0..2 {
        let stream = front.spawn(contact(chat).in_stream());
        if chat == 0 {
            settle().await;
        }
        let outcome = front.ask(contact(chat)).await;
        assert_eq!((told(&outcome), front.time()), (Ok(CacheStatus::Miss), Duration::ZERO));
        let ended = told(&stream.await.unwrap());
        assert!(matches!(ended, Ok(_) | Err(LookupError::NoTurnYet { .. })), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_stream_that_is_the_probe_of_the_breaker_takes_a_callers_turn() {
    let breaker = BreakerSettings { failures: 1 };
    let front = Front::new(Settings { breaker, ..retrying(1.0, 20) }, |attempt| {
        match (attempt.chat.ends_with("01"), attempt.of_key) {
            (true, 1) => {
                let again = Again::Yes;
                Reply::fails(LookupError::Unavailable { retry_after: Some(2 * SECOND), again })
                    .after(millis(500))
            }
            _ => Reply::picture(),
        }
    });
    let stream = front.spawn(contact(1).in_stream().within(30 * SECOND));
    settle().await;
    // They use a part of the burst, so that the next spare turn comes at 9 s.
    front.ask_all((10..18).map(contact)).await;
    sleep(3 * SECOND).await;
    assert_eq!(told(&front.ask(contact(20)).await), Ok(CacheStatus::Miss));
    assert_eq!((front.time(), stream.await.unwrap().is_ok()), (3 * SECOND, true));
}
