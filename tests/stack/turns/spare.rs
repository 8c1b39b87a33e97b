//! Streams take spare turns only: they never delay a caller by more than one turn.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use hypersender_grpc::{
    domain::{CacheStatus, LookupError, QueuePlace},
    stack::{RetrySettings, Settings},
};
use tokio::{
    sync::Semaphore,
    time::{advance, sleep},
};

use super::{greedy_streams, limited, waits};
use crate::support::*;

const INTERVAL: Duration = millis(200);

fn too_many() -> Reply {
    Reply::fails(LookupError::UpstreamRateLimited { retry_after: Some(5 * SECOND) })
}

#[tokio::test(start_paused = true)]
async fn callers_beside_greedy_streams_wait_one_turn_longer_at_most() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let streams = greedy_streams(&front, 16);
    for round in 0..10 {
        // In this time the burst comes back. Each round starts at another moment between two turns.
        sleep(5 * SECOND + millis(37 * round)).await;
        let quiet = Front::new(limited(5.0, 20), |_| Reply::picture());
        let chats = || (0..40).map(|chat| 100 * usize::try_from(round).unwrap() + chat % 100);
        let (with, without) = (waits(&front, chats()).await, waits(&quiet, chats()).await);
        for (with, without) in with.into_iter().zip(without) {
            assert!(with <= without + INTERVAL + millis(1), "round {round}: {with:?}, {without:?}");
        }
    }
    assert!(front.calls() > 400 + 100, "the streams run, too");
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn streams_use_the_rate_and_no_burst() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let streams = greedy_streams(&front, 16);
    sleep(10 * SECOND).await;
    streams.iter().for_each(tokio::task::JoinHandle::abort);
    let times = front.upstream.times();
    assert!((50..=51).contains(&times.len()), "{}", times.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 200), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_spare_turn_learns_it_at_once_and_is_not_refused() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    front.ask_all((0..2).map(contact)).await;
    for _ in 0..3 {
        let outcome = front.ask(contact(9).in_stream()).await;
        assert_eq!(told(&outcome), Err(LookupError::NoTurnYet { wait: 2 * SECOND }));
    }
    assert_eq!((front.calls(), front.time()), (2, Duration::ZERO));
    for purpose in ["caller", "batch", "refresh"] {
        let series = format!("hypersender_rate_limited_total{{purpose=\"{purpose}\"}}");
        assert_eq!(front.metric(&series), 0);
    }
    assert_eq!(front.metric("hypersender_cache_lookups_total{status=\"failed\"}"), 0, "it has not ended");
    advance(2 * SECOND).await;
    assert!(front.ask(contact(9).in_stream()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_streams_start_at_once_and_the_burst_comes_back_beside_them() {
    let front = Front::new(limited(5.0, 20), |attempt| match attempt.number {
        1 => too_many(),
        _ => Reply::picture(),
    });
    let _ = front.ask(contact(0)).await;
    let streams = greedy_streams(&front, 4);
    sleep(9 * SECOND).await;
    let times = front.upstream.times();
    assert_eq!(times[..3], [0, 5_000, 5_200]);
    // Without streams the burst is complete 3.8 s after the pause.
    let waits = waits(&front, 100..120).await;
    assert!(waits[..19].iter().all(Duration::is_zero) && waits[19] <= INTERVAL, "{waits:?}");
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn turns_that_callers_booked_in_a_pause_are_not_spare() {
    let front = Front::new(limited(5.0, 20), |attempt| match attempt.number {
        1 => too_many(),
        _ => Reply::picture(),
    });
    let _ = front.ask(contact(0)).await;
    let callers: Vec<_> = (1..21).map(|chat| front.spawn(contact(chat))).collect();
    settle().await;
    let streams = greedy_streams(&front, 4);
    for caller in callers {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(front.time(), 5 * SECOND + 19 * INTERVAL);
    assert_eq!(front.calls(), 1 + 20, "no stream took a turn between them");
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_stream_takes_the_next_spare_turn_before_all_streams() {
    let retry = RetrySettings::default();
    let front = Front::new(Settings { retry, ..limited(1.0, 1) }, |attempt| match attempt.number {
        1 => Reply::fails(unavailable()),
        _ => Reply::picture(),
    });
    let stream = front.spawn(contact(1).in_stream());
    settle().await;
    // The pause before the retry is 100 ms at most.
    sleep(millis(200)).await;
    let next = front.ask(contact(2).in_stream()).await;
    assert_eq!(told(&next), Err(LookupError::NoTurnYet { wait: millis(1_800) }), "the turn after the retry");
    let others = greedy_streams(&front, 4);
    assert!(stream.await.unwrap().is_ok());
    assert_eq!(front.time(), SECOND);
    sleep(millis(1_100)).await;
    others.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(front.upstream.times(), [0, 1_000, 2_000]);
    assert_eq!(front.upstream.attempts()[0].chat, front.upstream.attempts()[1].chat);
}

#[tokio::test(start_paused = true)]
async fn retries_of_streams_take_their_spare_turns_in_order_while_they_have_time() {
    let retry = RetrySettings { attempts: 2, budget: 1.0 };
    let front = Front::new(Settings { retry, ..limited(1.0, 1) }, |attempt| match attempt.of_key {
        1 => Reply::fails(unavailable()).after(millis(4_800 - 800 * attempt.number as u64)),
        _ => Reply::picture(),
    });
    // They start at 0, 1, 2 and 3 s and fail at 4.0, 4.2, 4.4 and 4.6 s. The last one has no time for the
    // fourth spare turn.
    let mut streams = Vec::new();
    for (chat, within) in [(0, 10_000), (1, 10_000), (2, 10_000), (3, 3_500)] {
        streams.push(front.spawn(contact(chat).in_stream().within(millis(within))));
        settle().await;
        advance(SECOND).await;
    }
    let mut outcomes = Vec::new();
    for stream in streams {
        outcomes.push(stream.await.unwrap());
    }
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(front.time() < millis(6_500), "{:?}", front.time());
    let times = front.upstream.times();
    assert_eq!(times.len(), 7);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_moves_up_when_the_turn_is_taken_or_a_flight_is_joined() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture().after(SECOND));
    let queue = Arc::new(Semaphore::new(1));
    let place = || QueuePlace::new(queue.clone().try_acquire_owned().expect("the place is free"));
    let first = place();
    let asked = front.spawn(contact(1).at_place(&first));
    settle().await;
    assert_eq!((front.calls(), queue.available_permits()), (1, 1), "it has its turn");
    let second = place();
    let joiner = front.spawn(contact(1).at_place(&second));
    settle().await;
    assert_eq!((front.calls(), queue.available_permits()), (1, 1), "it needs no turn");
    let third = place();
    let outcome = front.ask(contact(2).at_place(&third)).await;
    assert_eq!(told(&outcome), Err(LookupError::NoTurnYet { wait: SECOND }));
    assert_eq!(queue.available_permits(), 0, "it waits for a turn");
    assert!(asked.await.unwrap().is_ok() && joiner.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_no_stream_waits_for_takes_no_spare_turn() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    // It starts a flight, and the stream leaves before the flight runs.
    assert!(front.ask(contact(1).in_stream()).now_or_never().is_none());
    settle().await;
    assert_eq!(told(&front.ask(contact(2).in_stream()).await), Ok(CacheStatus::Miss));
    assert_eq!((front.calls(), front.time()), (1, Duration::ZERO));
}
