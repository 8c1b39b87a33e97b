//! A batch books few turns ahead, so that the callers behind it do not wait for all of it.

use std::time::Duration;

use hypersender_grpc::domain::{BatchTurns, CacheStatus, LookupError};
use tokio::{task::JoinHandle, time::sleep};

use super::limited;
use crate::support::*;

const INTERVAL: Duration = millis(200);

/// A batch of so many contacts, with its deadline.
fn batch(front: &Front, contacts: usize, within: Duration) -> Vec<JoinHandle<Outcome>> {
    let turns = BatchTurns::new();
    (0..contacts).map(|chat| front.spawn(contact(chat).in_batch(&turns).within(within))).collect()
}

async fn outcomes(batch: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for lookup in batch {
        outcomes.push(lookup.await.unwrap());
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_100_is_answered_and_a_caller_beside_it_waits_for_six_turns_at_most() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let batch = batch(&front, 100, 30 * SECOND);
    for caller in 0..10 {
        sleep(millis(530)).await;
        let asked = front.time();
        front.ask(contact(1_000 + caller)).await.unwrap();
        assert!(front.time() - asked <= 6 * INTERVAL, "{:?}", front.time() - asked);
    }
    let outcomes = outcomes(batch).await;
    assert_eq!(count(&outcomes, Result::is_ok), 100);
    // All turns are used: 20 at once, and one every 200 ms from then on.
    assert_eq!((front.calls(), front.time()), (110, 18 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_100_alone_takes_all_turns_one_after_the_other() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture().after(millis(700)));
    let outcomes = outcomes(batch(&front, 100, 30 * SECOND)).await;
    assert_eq!(count(&outcomes, Result::is_ok), 100);
    let expected: Vec<_> = [0; 20].into_iter().chain((1..=80).map(|turn| turn * 200)).collect();
    assert_eq!(front.upstream.times(), expected);
}

#[tokio::test(start_paused = true)]
async fn look_ups_without_a_turn_in_time_get_waits_of_their_own() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    let outcomes = outcomes(batch(&front, 20, 8 * SECOND)).await;
    assert_eq!(count(&outcomes, Result::is_ok), 5 + 7);
    let mut waits: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match told(outcome) {
            Ok(_) => None,
            Err(LookupError::RateLimited { wait }) => Some(wait),
            Err(error) => panic!("{error:?}"),
        })
        .collect();
    waits.sort();
    assert_eq!(waits.len(), 8);
    assert!(waits.windows(2).all(|pair| pair[1] - pair[0] == SECOND), "{waits:?}");
    assert_eq!(front.metric("hypersender_rate_limited_total{purpose=\"batch\"}"), 8);
    assert_eq!(front.metric("hypersender_rate_limited_total{purpose=\"caller\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn in_a_long_pause_a_batch_is_refused_at_once() {
    let front = Front::new(limited(5.0, 20), |_| {
        Reply::fails(LookupError::UpstreamRateLimited { retry_after: Some(60 * SECOND) })
    });
    let _ = front.ask(contact(1_000)).await;
    let outcomes = outcomes(batch(&front, 100, 30 * SECOND)).await;
    assert_eq!((front.calls(), front.time()), (1, Duration::ZERO));
    let mut waits: Vec<_> = outcomes.iter().map(|outcome| told(outcome).unwrap_err()).collect();
    waits.sort_by_key(LookupError::retry_after);
    let expected = (0..100).map(|id| LookupError::RateLimited { wait: 60 * SECOND + id * INTERVAL });
    assert_eq!(waits, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_ends_at_its_deadline() {
    for (per_second, within) in [(5.0, 3), (0.1, 3), (5.0, 25)] {
        let front = Front::new(limited(per_second, 20), |attempt| {
            Reply::picture().after(if attempt.number <= 30 { SECOND } else { HOUR })
        });
        let outcomes = outcomes(batch(&front, 100, within * SECOND)).await;
        assert!(front.time() <= within * SECOND, "{per_second}: {:?}", front.time());
        let allowed = |outcome: &Outcome| match told(outcome) {
            Ok(status) => status == CacheStatus::Miss,
            Err(error) => {
                matches!(error, LookupError::RateLimited { .. } | LookupError::DeadlineExceeded)
            }
        };
        assert_eq!(count(&outcomes, allowed), 100);
        assert!(count(&outcomes, Result::is_ok) >= 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_caller_leaves_asks_no_more() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let batch = batch(&front, 100, 30 * SECOND);
    sleep(millis(500)).await;
    assert_eq!(front.calls(), 20 + 2);
    batch.iter().for_each(JoinHandle::abort);
    settle().await;
    assert_eq!(front.metric("hypersender_flights"), 5, "those that have booked end with their turns");
    sleep(30 * SECOND).await;
    assert_eq!((front.calls(), front.metric("hypersender_flights")), (22, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_a_rate_limit_waits_for_nothing() {
    let front = Front::new(limited(0.0, 0), |_| Reply::picture());
    let outcomes = outcomes(batch(&front, 100, 30 * SECOND)).await;
    assert_eq!((count(&outcomes, Result::is_ok), front.time()), (100, Duration::ZERO));
}
