//! One flight for each key, whose work belongs to no caller (rules 12 to 14).

use std::time::Duration;

use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::{ConcurrencySettings, RateSettings, Settings},
};
use tokio::{
    runtime::Builder,
    time::{advance, sleep},
};

use crate::support::*;

/// The scenario runs a hundred times, because the order of the callers differs in each run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_upstream_is_asked_once() {
    for _ in 0..100 {
        let callers = 10_000;
        let front = Front::new(unlimited(), |_| Reply::picture().after(millis(5)));
        let groups = (0..8).map(|_| {
            let front = front.clone();
            tokio::spawn(async move { front.ask_all((0..callers / 8).map(|_| contact(1))).await })
        });
        let mut answered = 0;
        for group in groups.collect::<Vec<_>>() {
            answered += count(&group.await.unwrap(), Result::is_ok);
        }
        assert_eq!((answered, front.calls()), (callers, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn joiners_are_told_that_they_shared() {
    let front = Front::new(plain(), |_| Reply::picture().after(SECOND));
    let answers = front.ask_all((0..3).map(|_| contact(1))).await;
    let collapsed: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().cache.collapsed).collect();
    assert_eq!(collapsed, [false, true, true]);
}

/// The leader leaves after 50 of 500 ms, and 999 other callers stay.
async fn check_leaving(
    leader_within: Duration,
    cancels_after: Option<Duration>,
    leader: Option<LookupError>,
) {
    let front = Front::new(plain(), |_| Reply::picture().after(millis(500)));
    let first = front.spawn(contact(1).within(leader_within));
    settle().await;
    let others: Vec<_> = (0..999).map(|_| front.spawn(contact(1))).collect();
    if let Some(after) = cancels_after {
        sleep(after).await;
        first.abort();
    }
    for other in others {
        assert!(other.await.unwrap().is_ok());
    }
    assert_eq!(first.await.ok().map(|outcome| outcome.unwrap_err()), leader);
    assert_eq!((front.calls(), front.time()), (1, millis(500)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_affects_only_itself() {
    check_leaving(10 * SECOND, Some(millis(50)), None).await;
    check_leaving(millis(50), None, Some(LookupError::DeadlineExceeded)).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_have_left_the_attempt_ends_and_fills_the_cache() {
    let front = Front::new(plain(), |_| Reply::picture().after(millis(500)));
    let callers: Vec<_> = (0..10).map(|_| front.spawn(contact(1))).collect();
    sleep(millis(50)).await;
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    sleep(SECOND).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Hit));
    assert_eq!(front.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_all_have_left_no_further_attempt_starts() {
    // In turn, the further attempt would be a retry, one that waited for the rate limit, and one that waited
    // for a permit.
    for (what, settings) in [
        ("retry", unlimited()),
        ("turn", Settings { rate: RateSettings { per_second: 1.0, burst: 1 }, ..unlimited() }),
        ("place", Settings { concurrency: ConcurrencySettings { attempts: 1 }, ..unlimited() }),
    ] {
        let front = Front::new(settings, |_| Reply::fails(unavailable()).after(millis(500)));
        let callers = [1, 2].map(|chat| front.spawn(contact(chat)));
        sleep(millis(50)).await;
        let before = front.calls();
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        sleep(30 * SECOND).await;
        assert_eq!(front.calls(), before, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_keeps_the_flight_going() {
    let front = Front::new(unlimited(), |attempt| match attempt.number {
        1 => Reply::fails(unavailable()).after(SECOND),
        _ => Reply::picture(),
    });
    let first = front.spawn(contact(1));
    sleep(millis(500)).await;
    let joiner = front.spawn(contact(1));
    settle().await;
    first.abort();
    assert_eq!(told(&joiner.await.unwrap()), Ok(CacheStatus::Miss));
    assert_eq!(front.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_flight_lasts_longer_than_15_s() {
    let front = Front::new(plain(), |_| Reply::picture().after(HOUR));
    let outcome = front.ask(contact(1).within(30 * SECOND)).await;
    assert_eq!(told(&outcome), Err(LookupError::TimedOut { retry_after: None }));
    assert_eq!((front.time(), front.upstream.on_wire()), (15 * SECOND, 0));
}

#[tokio::test(start_paused = true)]
async fn the_longest_waiter_decides_whether_a_turn_comes_in_time() {
    let rate = RateSettings { per_second: 1.0, burst: 1 };
    let front = Front::new(Settings { rate, ..unlimited() }, |_| Reply::picture());
    front.ask(contact(0)).await.unwrap();
    // The rate limit allows the next attempt in a second, which is too late for the leader.
    let outcomes = front.ask_all([contact(1).within(millis(500)), contact(1)]).await;
    assert_eq!(told(&outcomes[0]), Err(LookupError::DeadlineExceeded));
    assert_eq!(told(&outcomes[1]), Ok(CacheStatus::Miss));
    assert_eq!(front.upstream.times(), [0, 1_000]);
    // Without another caller, the call is refused at once.
    let outcome = front.ask(contact(2).within(millis(500))).await;
    assert_eq!(told(&outcome), Err(LookupError::RateLimited { wait: SECOND }));
    assert_eq!(front.time(), SECOND);
}

/// Checks a background refresh that is refused, and a caller that has joined it and has time to wait.
async fn check_joined_refresh(settings: Settings, busy: usize) {
    let front = Front::new(settings, |attempt| {
        Reply::picture().after(if attempt.chat.ends_with("01") { Duration::ZERO } else { SECOND })
    });
    front.ask(contact(1)).await.unwrap();
    sleep(HOUR).await;
    let others: Vec<_> = (0..busy).map(|other| front.spawn(contact(50 + other))).collect();
    settle().await;
    assert_eq!(front.calls(), 2, "one of the others is on the wire");
    // The refresh starts when its task is polled, and the joiner starts directly after it.
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    let joiner = front.spawn(contact(1).stale_if_error(Duration::ZERO));
    assert_eq!(told(&joiner.await.unwrap()), Ok(CacheStatus::Expired));
    assert!(front.time() > HOUR, "it has waited");
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn a_joiner_of_a_refresh_that_gave_up_starts_a_flight_itself() {
    let rate = RateSettings { per_second: 1.0, burst: 1 };
    check_joined_refresh(Settings { rate, ..unlimited() }, 1).await;
    let concurrency = ConcurrencySettings { attempts: 1 };
    check_joined_refresh(Settings { concurrency, ..unlimited() }, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_keeps_no_abandoned_flight_going() {
    let front = Front::new(unlimited(), |attempt| match attempt.of_key {
        1 => Reply::picture(),
        _ => Reply::fails(unavailable()).after(SECOND),
    });
    front.ask(contact(1)).await.unwrap();
    advance(HOUR).await;
    let caller = front.spawn(contact(1).stale_if_error(Duration::ZERO));
    settle().await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
    settle().await;
    caller.abort();
    sleep(30 * SECOND).await;
    assert_eq!(front.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_everybodys_answer_and_the_key_works_afterwards() {
    let front = Front::new(plain(), |attempt| match attempt.number {
        1 => Reply::panics().after(SECOND),
        _ => Reply::picture(),
    });
    let outcomes = front.ask_all((0..10).map(|_| contact(1))).await;
    assert_eq!(count(&outcomes, |outcome| told(outcome) == Err(LookupError::Internal)), 10);
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Miss));
}

#[test]
fn a_flight_whose_task_is_ended_from_outside_is_cleared() {
    let first = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = Builder::new_current_thread().enable_all().build().unwrap();
    let front = second.block_on(async {
        Front::new(plain(), |attempt| match attempt.number {
            1 => Reply::picture().after(HOUR),
            _ => Reply::picture(),
        })
    });
    // The task of the flight runs in the runtime of its first caller.
    first.block_on(async {
        let leader = front.spawn(contact(1));
        while front.calls() == 0 {
            tokio::task::yield_now().await;
        }
        drop(leader);
    });
    second.block_on(async {
        let joiner = front.spawn(contact(1).within(HOUR));
        settle().await;
        first.shutdown_background();
        assert_eq!(told(&joiner.await.unwrap()), Err(LookupError::Internal));
        assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Miss));
    });
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_finds_what_a_flight_brought_that_ended_before_it_could_join() {
    let front = Front::new(plain(), |_| Reply::picture().after(SECOND));
    // The newcomer has looked into the cache, and its flight is not yet polled.
    let newcomer = front.ask(contact(1));
    front.ask(contact(1)).await.unwrap();
    assert!(newcomer.await.is_ok());
    assert_eq!(front.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_finds_a_doubted_link_gets_it_as_stale_or_not_at_all() {
    for (ask, expected) in
        [(contact(1), CacheStatus::Stale), (contact(1).stale_if_error(Duration::ZERO), CacheStatus::Expired)]
    {
        let front = Front::new(plain(), |attempt| match attempt.of_key {
            1 => Reply::picture(),
            _ => Reply::null(),
        });
        let link = front.ask(contact(1)).await.unwrap().finding;
        advance(2 * HOUR).await;
        let newcomer = front.ask(ask);
        assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
        let outcome = newcomer.await;
        assert_eq!(told(&outcome), Ok(expected));
        assert_eq!(outcome.unwrap().finding == link, expected == CacheStatus::Stale);
        assert_eq!(front.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn more_flights_than_fit_are_refused_at_once() {
    let front = Front::new(Settings { flights: 3, ..plain() }, |_| Reply::picture().after(SECOND));
    let outcomes = front.ask_all((0..5).chain(0..3).map(contact)).await;
    let refused: Vec<_> = outcomes.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, false, true, true, false, false, false], "joining takes no room");
    assert_eq!(told(&outcomes[3]), Err(LookupError::Overloaded));
    assert_eq!(front.ask(contact(9)).await.map(|_| ()), Ok(()), "ended flights make room");
}
