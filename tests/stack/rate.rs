//! The rate limit of an instance, and the effect of a 429 (rules 17 and 18).

use std::time::Duration;

use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::{RateSettings, RetrySettings, Settings},
};
use tokio::time::{advance, sleep};

use crate::support::*;

fn limited(per_second: f64, burst: u32) -> Settings {
    Settings { rate: RateSettings { per_second, burst }, ..plain() }
}

fn too_many(retry_after: Option<Duration>) -> Reply {
    Reply::fails(LookupError::UpstreamRateLimited { retry_after })
}

#[tokio::test(start_paused = true)]
async fn a_crowd_gets_the_turns_that_come_in_time_and_the_rest_is_told_at_once() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let callers: Vec<_> = (0..1_000)
        .map(|chat| {
            let front = front.clone();
            tokio::spawn(async move { (front.ask(contact(chat)).await, front.time()) })
        })
        .collect();
    let mut answered = 0;
    for caller in callers {
        match caller.await.unwrap() {
            (Ok(_), _) => answered += 1,
            (Err(error), time) => {
                // The burst and all attempts up to 9.8 s are taken.
                assert_eq!((error, time), (LookupError::RateLimited { wait: 10 * SECOND }, Duration::ZERO));
            }
        }
    }
    assert_eq!(answered, 20 + 49);
    let expected: Vec<_> = [0; 20].into_iter().chain((1..=49).map(|turn| turn * 200)).collect();
    assert_eq!(front.upstream.times(), expected);
}

#[tokio::test(start_paused = true)]
async fn hits_and_joined_flights_take_no_turn_and_retries_do() {
    let front = Front::new(limited(1.0, 1), |_| Reply::picture().after(millis(10)));
    front.ask_all((0..50).map(|_| contact(1))).await;
    front.ask_all((0..50).map(|_| contact(1))).await;
    front.ask(contact(2)).await.unwrap();
    assert_eq!(front.upstream.times(), [0, 1_000]);

    let front = Front::new(Settings { retry: RetrySettings::default(), ..limited(1.0, 1) }, |_| {
        Reply::fails(unavailable())
    });
    let _ = front.ask(contact(1)).await;
    assert_eq!(front.upstream.times(), [0, 1_000, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn each_instance_has_its_own_limit_and_0_is_none() {
    let front = Front::new(limited(1.0, 2), |_| Reply::picture());
    let asks = (0..4).map(|chat| contact(chat).of(["a", "b"][chat % 2]));
    assert_eq!(count(&front.ask_all(asks).await, Result::is_ok), 4);
    assert_eq!(front.time(), Duration::ZERO);
    for settings in [limited(0.0, 20), limited(5.0, 0)] {
        let front = Front::new(settings, |_| Reply::picture());
        assert_eq!(count(&front.ask_all((0..1_000).map(contact)).await, Result::is_ok), 1_000);
        assert_eq!((front.calls(), front.time()), (1_000, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_pauses_the_whole_instance_and_no_other() {
    let front = Front::new(limited(5.0, 2), |attempt| match attempt.number {
        1 => too_many(Some(5 * SECOND)).after(millis(100)),
        _ => Reply::picture(),
    });
    // Two attempts start at once. The others are booked for 0.2 s, 0.4 s and so on.
    let mut callers: Vec<_> = (0..6).map(|chat| front.spawn(contact(chat))).collect();
    sleep(SECOND).await;
    assert_eq!(front.calls(), 2);
    let first = callers.remove(0).await.unwrap();
    let wait = Some(5 * SECOND);
    assert_eq!(told(&first), Err(LookupError::UpstreamRateLimited { retry_after: wait }));
    // A newcomer with too little time gets the wait. Another instance is asked.
    let Err(LookupError::RateLimited { wait }) = told(&front.ask(contact(9).within(SECOND)).await) else {
        panic!("it is not refused");
    };
    assert!(wait >= millis(4_100), "{wait:?}");
    assert!(front.ask(contact(9).of("other")).await.is_ok());
    assert_eq!(front.time(), SECOND);
    for caller in callers {
        assert_eq!(told(&caller.await.unwrap()), Ok(CacheStatus::Miss));
    }
    // After the pause there is no burst, and the distance between attempts is the same.
    let times = front.upstream.times();
    assert_eq!(times[..3], [0, 0, 1_000]);
    assert!(times[3] >= 5_100 && times[3..].windows(2).all(|pair| pair[1] - pair[0] >= 200), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_429_without_a_hint_pauses_longer_each_time() {
    let front = Front::new(limited(0.0, 0), |_| too_many(None));
    let mut waits = Vec::new();
    for chat in 0..7 {
        let Err(LookupError::UpstreamRateLimited { retry_after: Some(wait) }) =
            told(&front.ask(contact(chat)).await)
        else {
            panic!("it is not refused");
        };
        waits.push(wait.as_secs());
        sleep(wait).await;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_are_refused_together_are_one_refusal() {
    let front = Front::new(limited(5.0, 20), |_| too_many(None).after(millis(10)));
    let outcomes = front.ask_all((0..20).map(contact)).await;
    let wait = LookupError::UpstreamRateLimited { retry_after: Some(SECOND) };
    assert_eq!(count(&outcomes, |outcome| told(outcome) == Err(wait.clone())), 20);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_in_the_background_never_waits_for_a_turn() {
    let front = Front::new(limited(1.0, 1), |_| Reply::picture());
    front.ask(contact(1)).await.unwrap();
    advance(HOUR).await;
    front.ask(contact(2)).await.unwrap();
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    sleep(30 * SECOND).await;
    assert_eq!(front.calls(), 2);
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    settle().await;
    assert_eq!(front.calls(), 3);
}

/// Timers count whole milliseconds and round up. An attempt that may start now must not wait for a timer.
#[tokio::test(start_paused = true)]
async fn a_turn_that_is_now_goes_at_once() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    for chat in 0..5 {
        advance(Duration::from_micros(300)).await;
        let asked = front.time();
        front.ask(contact(chat)).await.unwrap();
        assert_eq!((front.upstream.attempts()[chat].at, front.time()), (asked, asked));
    }
}

/// An attempt needs 50 ms, and the timer and other tasks some more. A turn at the very end would be lost.
#[tokio::test(start_paused = true)]
async fn a_turn_at_the_very_end_of_a_callers_time_is_left_to_others() {
    let front = Front::new(limited(1.0, 1), |_| Reply::picture());
    front.ask(contact(0)).await.unwrap();
    let refused = front.ask(contact(1).within(millis(1_052))).await.map(|_| ());
    assert_eq!((refused, front.time()), (Err(LookupError::RateLimited { wait: SECOND }), Duration::ZERO));
    front.ask(contact(2).within(millis(1_060))).await.unwrap();
    assert_eq!(front.upstream.times(), [0, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn callers_that_leave_give_their_turns_back() {
    let front = Front::new(limited(5.0, 5), |_| Reply::picture());
    front.ask_all((0..5).map(contact)).await;
    let leaving: Vec<_> = (10..50).map(|chat| front.spawn(contact(chat))).collect();
    let staying = front.spawn(contact(100));
    let batches: Vec<_> =
        (0..4).map(|batch| front.batch((0..40).map(|chat| contact(1_000 * (batch + 1) + chat)))).collect();
    settle().await;
    sleep(millis(100)).await;
    leaving.iter().for_each(tokio::task::JoinHandle::abort);
    batches.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    // The turns of those who have left are free, and the one of the caller who stays is still reserved.
    let before = front.time();
    front.ask(contact(200)).await.unwrap();
    assert!(front.time() - before <= millis(200), "waited {:?}", front.time() - before);
    staying.await.unwrap().unwrap();
    assert_eq!(front.calls(), 5 + 2);
}
