//! The shares of avatars beside callers and streams.

use hypersender_grpc::{
    domain::LookupError,
    stack::{ConcurrencySettings, Settings},
};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Duration, sleep, timeout},
};

use super::{avatars, chats, limited, outcomes, use_burst};
use crate::support::*;

/// Callers that ask for new contacts for ever, each for one at a time. The numbers begin at 100,000.
fn greedy_callers(front: &Front, callers: usize) -> Vec<JoinHandle<()>> {
    let caller = |caller: usize| {
        let front = front.clone();
        tokio::spawn(async move {
            for chat in 0.. {
                let _ = front.ask(contact(10_000 * (caller + 10) + chat)).await;
                yield_now().await;
            }
        })
    };
    (0..callers).map(caller).collect()
}

fn stop<T>(tasks: &[JoinHandle<T>]) {
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn callers_beside_500_avatars_wait_one_turn_longer_at_most() {
    const TURN: Duration = millis(200);
    let reply = |_: &Attempt| Reply::picture().after(millis(300));
    let (front, quiet) = (Front::new(limited(5.0, 20), reply), Front::new(limited(5.0, 20), reply));
    let page = {
        let front = front.clone();
        tokio::spawn(async move {
            // A page that asks again and again for those that it did not get.
            for _ in 0..6 {
                let asks = (0..500).map(|chat| front.spawn_avatar(contact(chat)));
                outcomes(asks.collect()).await;
            }
        })
    };
    let mut longest = Duration::ZERO;
    for round in 0..8 {
        // In this time the burst comes back. Each round starts at another moment between two turns.
        sleep(5 * SECOND + millis(37 * round)).await;
        let first = 20_000 + 20 * usize::try_from(round).unwrap();
        let (with, without) = (burst(&front, first).await, burst(&quiet, first).await);
        for (with, without) in with.into_iter().zip(without) {
            longest = longest.max(with.saturating_sub(without));
        }
    }
    assert!(longest <= TURN, "{longest:?}");
    assert!(front.calls() > 160 + 80, "the avatars run, too: {}", front.calls());
    page.abort();
}

#[tokio::test(start_paused = true)]
async fn avatars_come_before_streams_which_go_on_afterwards() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture().after(millis(300)));
    let streams: Vec<_> = (1..5).map(|one| front.look_up(contacts(one * 1_000..one * 1_000 + 999))).collect();
    sleep(10 * SECOND + millis(100)).await;
    let before = front.calls();
    let asked = avatars(&front, 0..25).await;
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 25);
    let chats_asked = chats(&front);
    assert_eq!(chats_asked[before..before + 25], (0..25).collect::<Vec<_>>());
    sleep(5 * SECOND).await;
    let chats_asked = chats(&front);
    assert!(chats_asked[before + 25..].iter().all(|chat| *chat >= 1_000));
    assert!((24..=27).contains(&(chats_asked.len() - before - 25)), "{}", chats_asked.len());
    let times = front.upstream.times();
    assert!(times.windows(2).all(|pair| (200..=201).contains(&(pair[1] - pair[0]))), "{times:?}");
    stop(&streams);
}

#[tokio::test(start_paused = true)]
async fn the_retry_of_a_stream_comes_before_avatars_that_wait() {
    let retry = hypersender_grpc::stack::RetrySettings { attempts: 2, budget: 1.0 };
    let front = Front::new(Settings { retry, ..limited(1.0, 1) }, |attempt| match attempt.number {
        1 => Reply::fails(unavailable()),
        _ => Reply::picture(),
    });
    let stream = front.look_up(contacts([1_000]));
    settle().await;
    let asked = avatars(&front, 0..2).await;
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 2);
    assert_eq!(chats(&front), [1_000, 1_000, 0, 1]);
    assert_eq!(front.upstream.times(), [0, 1_000, 2_000, 3_000]);
    assert_eq!(stream.await.unwrap().answers(), 1);
}

#[tokio::test(start_paused = true)]
async fn avatars_beside_callers_that_use_the_whole_rate_are_refused_and_hold_no_flight() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let callers = greedy_callers(&front, 10);
    sleep(10 * SECOND).await;
    let (calls, start) = (front.calls(), front.time());
    let asked = avatars(&front, 0..30).await;
    for _ in 0..9 {
        sleep(SECOND).await;
        assert!(front.metric("hypersender_flights") <= 10, "the flights of the callers");
    }
    for outcome in outcomes(asked).await {
        let Err(LookupError::RateLimited { wait }) = told(&outcome) else { panic!("{outcome:?}") };
        assert!(!wait.is_zero());
    }
    assert!(front.time() - start <= 10 * SECOND, "{:?}", front.time() - start);
    assert_eq!(front.metric("hypersender_rate_limited_total{purpose=\"avatar\"}"), 30);
    assert!(chats(&front).iter().all(|chat| *chat >= 100_000), "no avatar took a turn");
    assert!(front.calls() - calls >= 44, "the callers had them");
    // Streams are not held up by avatars that have left.
    stop(&callers);
    assert_eq!(front.look_up(contacts(0..5)).await.unwrap().answers(), 5);
}

#[tokio::test(start_paused = true)]
async fn avatars_and_streams_share_half_of_the_flights_and_attempts() {
    let slow = |_: &Attempt| Reply::picture().after(SECOND);
    // Half of the flights, for the avatars of all instances and the streams together.
    let front = Front::new(Settings { flights: 20, ..limited(0.0, 0) }, slow);
    let asks = (0..60).map(|chat| front.spawn_avatar(contact(chat).of(["a", "b", "c"][chat % 3])));
    let asked: Vec<_> = asks.collect();
    let stream = front.look_up(contacts(0..20).of("d"));
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 60);
    assert_eq!(stream.await.unwrap().answers(), 20);
    assert_eq!((front.upstream.most_at_once(), front.time()), (10, 8 * SECOND));
    // Half of the attempts of an instance, and one at least.
    for (attempts, at_once) in [(16, 4), (2, 1), (1, 1)] {
        let concurrency = ConcurrencySettings { attempts };
        let front = Front::new(Settings { concurrency, ..limited(0.0, 0) }, slow);
        let stream = front.look_up(contacts(100..104));
        let asked = avatars(&front, 0..4).await;
        assert_eq!(count(&outcomes(asked).await, Result::is_ok), 4);
        assert_eq!(stream.await.unwrap().answers(), 4);
        assert_eq!(front.upstream.most_at_once(), at_once, "{attempts}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_attempt_at_a_time_is_enough_for_avatars_and_streams_that_wait_for_turns() {
    let concurrency = ConcurrencySettings { attempts: 1 };
    let front = Front::new(Settings { concurrency, ..limited(2.0, 1) }, |_| Reply::picture());
    use_burst(&front, 1).await;
    let stream = front.look_up(contacts(100..110));
    sleep(millis(100)).await;
    let asked = avatars(&front, 0..10).await;
    let all = timeout(MINUTE, async { (outcomes(asked).await, stream.await.unwrap()) });
    let (images, ended) = all.await.expect("none waits for the permit of another one");
    assert_eq!((count(&images, Result::is_ok), ended.answers()), (10, 10));
    assert_eq!(front.time(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn avatars_of_one_instance_hold_up_no_other_instance() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture().after(SECOND));
    let asked = avatars(&front, 0..40).await;
    let start = front.time();
    assert!(front.avatar(contact(0).of("other")).await.is_ok());
    assert!(front.ask(contact(1).of("other")).await.is_ok());
    assert_eq!(front.time() - start, 2 * SECOND);
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 40);
}
