//! A batch books few turns ahead, so that the callers behind it do not wait for all of it.

use std::time::Duration;

use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::{RetrySettings, Settings},
};
use tokio::{task::JoinHandle, time::sleep};

use super::limited;
use crate::support::*;

const INTERVAL: Duration = millis(200);

/// A batch of so many contacts, with its deadline.
fn batch(front: &Front, contacts: usize, within: Duration) -> JoinHandle<Vec<Outcome>> {
    front.batch((0..contacts).map(|chat| contact(chat).within(within)))
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
    let outcomes = batch.await.unwrap();
    assert_eq!(count(&outcomes, Result::is_ok), 100);
    // All turns are used: 20 at once, and one every 200 ms from then on.
    assert_eq!((front.calls(), front.time()), (110, 18 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_100_alone_takes_all_turns_one_after_the_other() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture().after(millis(700)));
    let outcomes = batch(&front, 100, 30 * SECOND).await.unwrap();
    assert_eq!(count(&outcomes, Result::is_ok), 100);
    let expected: Vec<_> = [0; 20].into_iter().chain((1..=80).map(|turn| turn * 200)).collect();
    assert_eq!(front.upstream.times(), expected);
}

#[tokio::test(start_paused = true)]
async fn look_ups_without_a_turn_in_time_get_waits_of_their_own() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    let outcomes = batch(&front, 20, 8 * SECOND).await.unwrap();
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
    let outcomes = batch(&front, 100, 30 * SECOND).await.unwrap();
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
        let outcomes = batch(&front, 100, within * SECOND).await.unwrap();
        assert!(front.time() <= within * SECOND, "{per_second}: {:?}", front.time());
        let allowed = |outcome: &Outcome| match told(outcome) {
            Ok(status) => status == CacheStatus::Miss,
            // The last one is that of a flight which has reached its limit.
            Err(error) => matches!(
                error,
                LookupError::RateLimited { .. }
                    | LookupError::DeadlineExceeded
                    | LookupError::TimedOut { .. }
            ),
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
    batch.abort();
    settle().await;
    assert_eq!(front.metric("hypersender_flights"), 0, "those that have booked give their turns back");
    sleep(30 * SECOND).await;
    assert_eq!((front.calls(), front.metric("hypersender_flights")), (22, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_a_rate_limit_waits_for_nothing() {
    let front = Front::new(limited(0.0, 0), |_| Reply::picture());
    let outcomes = batch(&front, 100, 30 * SECOND).await.unwrap();
    assert_eq!((count(&outcomes, Result::is_ok), front.time()), (100, Duration::ZERO));
}

/// As many batches as `instances` says, one for each. All contacts of a batch are its own.
fn batches<'a>(
    front: &'a Front,
    instances: impl Iterator<Item = String> + 'a,
) -> impl Iterator<Item = JoinHandle<Vec<Outcome>>> + 'a {
    instances.enumerate().map(|(number, instance)| {
        let contacts = 1_000 * (number + 1)..;
        front
            .batch(contacts.take(100).map(move |chat| contact(chat).of(instance.clone()).within(30 * SECOND)))
    })
}

/// Checks callers of two instances beside 40 batches of 100 contacts that memory does not have.
async fn check_beside_40_batches(instances: impl Iterator<Item = String>) {
    let settings = Settings { flights: 64, ..limited(5.0, 20) };
    let front = Front::new(settings, |_| Reply::picture().after(millis(100)));
    let batches: Vec<_> = batches(&front, instances).collect();
    for caller in 0.. {
        settle().await;
        if front.time() > 20 * SECOND {
            break;
        }
        for instance in ["instance-0", "other"] {
            let asked = front.time();
            let outcome = front.ask(contact(caller).of(instance)).await;
            assert_eq!(told(&outcome), Ok(CacheStatus::Miss), "{instance} at {asked:?}");
            let waited = front.time() - asked - millis(100);
            let most = if instance == "other" { Duration::ZERO } else { 21 * INTERVAL };
            assert!(waited <= most, "{instance} at {asked:?}: {waited:?}");
        }
        sleep(millis(370)).await;
    }
    for batch in batches {
        let outcomes = batch.await.unwrap();
        let allowed = |outcome: &Outcome| match told(outcome) {
            Ok(status) => status == CacheStatus::Miss,
            Err(error) => matches!(error, LookupError::RateLimited { .. }),
        };
        assert_eq!(count(&outcomes, allowed), 100);
        let mut waits: Vec<_> =
            outcomes.iter().filter_map(|outcome| told(outcome).err()?.retry_after()).collect();
        waits.sort();
        assert!(waits.windows(2).all(|pair| pair[1] - pair[0] >= INTERVAL), "{waits:?}");
    }
    assert!(front.time() <= 30 * SECOND);
    assert_eq!(front.metric("hypersender_flights"), 0);
}

#[tokio::test(start_paused = true)]
async fn batches_of_one_instance_fill_neither_the_flights_nor_the_turns() {
    check_beside_40_batches((0..40).map(|_| "instance-0".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn batches_of_many_instances_do_not_fill_the_flights() {
    check_beside_40_batches((0..40).map(|number| format!("instance-{number}"))).await;
}

#[tokio::test(start_paused = true)]
async fn batches_that_wait_for_answers_leave_half_of_the_flights() {
    let front = Front::new(Settings { flights: 64, ..limited(0.0, 0) }, |_| Reply::picture().after(HOUR));
    let batches: Vec<_> = batches(&front, (0..10).map(|number| format!("instance-{number}"))).collect();
    settle().await;
    assert_eq!(front.metric("hypersender_flights"), 32);
    let callers: Vec<_> = (0..32).map(|chat| front.spawn(contact(chat))).collect();
    settle().await;
    assert_eq!(front.metric("hypersender_flights"), 64);
    for batch in batches {
        let outcomes = batch.await.unwrap();
        assert!(outcomes.iter().all(|outcome| {
            matches!(
                told(outcome),
                Err(LookupError::TimedOut { .. } | LookupError::Overloaded | LookupError::DeadlineExceeded)
            )
        }));
    }
    assert_eq!(front.time(), 30 * SECOND);
    callers.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_turn_after_the_end_of_a_flight_is_waited_for_outside() {
    let front = Front::new(limited(5.0, 20), |attempt| match attempt.number {
        1 => Reply::fails(LookupError::UpstreamRateLimited { retry_after: Some(20 * SECOND) }),
        _ => Reply::picture(),
    });
    let _ = front.ask(contact(1_000)).await;
    let batch = batch(&front, 10, 30 * SECOND);
    sleep(2 * SECOND).await;
    assert_eq!(front.metric("hypersender_flights"), 0);
    assert_eq!(count(&batch.await.unwrap(), Result::is_ok), 10);
    assert_eq!(front.upstream.times()[1], 20_000);
    assert_eq!(front.time(), 20 * SECOND + 9 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn batches_of_the_same_contacts_share_their_fetches() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    let batches = [(); 3].map(|()| batch(&front, 100, 30 * SECOND));
    for batch in batches {
        assert_eq!(count(&batch.await.unwrap(), Result::is_ok), 100);
    }
    assert_eq!((front.calls(), front.time()), (100, 16 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_batch_books_a_turn_where_the_batches_have_booked_few() {
    for (batches, succeeds) in [(1, true), (4, false)] {
        let retry = RetrySettings { attempts: 2, budget: 1.0 };
        let front = Front::new(Settings { retry, ..limited(5.0, 1) }, |attempt| match attempt.number {
            1 => Reply::fails(unavailable()),
            _ => Reply::picture(),
        });
        let first = batch(&front, 6, 30 * SECOND);
        let others: Vec<_> = (1..batches)
            .map(|other| {
                front.batch((100 * other..100 * other + 5).map(|chat| contact(chat).within(30 * SECOND)))
            })
            .collect();
        let outcomes = first.await.unwrap();
        assert_eq!(outcomes[0].is_ok(), succeeds, "{:?}", outcomes[0]);
        assert!(succeeds || matches!(outcomes[0], Err(LookupError::Unavailable { .. })), "{:?}", outcomes[0]);
        assert_eq!(count(&outcomes[1..], Result::is_ok), 5);
        for other in others {
            assert_eq!(count(&other.await.unwrap(), Result::is_ok), 5);
        }
    }
}
