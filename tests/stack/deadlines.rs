//! The deadline of a caller is kept in every case (rules 9, 12, 19 and 23). The time is tokio's paused clock.

use std::time::Duration;

use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::{ConcurrencySettings, Settings},
};
use tokio::time::advance;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_hanging_upstream_costs_a_caller_its_time_and_no_more() {
    for within in [millis(60), SECOND, 10 * SECOND] {
        let front = Front::new(unlimited(), |_| Reply::picture().after(HOUR));
        let outcome = front.ask(contact(1).within(within)).await;
        assert_eq!((told(&outcome), front.time()), (Err(LookupError::DeadlineExceeded), within));
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_is_stored_answers() {
    let front = Front::new(unlimited(), |attempt| match attempt.of_key {
        1 => Reply::picture(),
        _ => Reply::picture().after(HOUR),
    });
    front.ask(contact(1)).await.unwrap();
    advance(2 * HOUR).await;
    let asks = [
        contact(1).within(SECOND),
        contact(1).within(2 * SECOND).stale_if_error(Duration::ZERO),
        contact(1).within(3 * SECOND).stale_if_error(DAY),
    ];
    let callers = asks.map(|ask| {
        let front = front.clone();
        tokio::spawn(async move { (told(&front.ask(ask).await), front.time() - 2 * HOUR) })
    });
    let [first, second, third] = callers;
    assert_eq!(first.await.unwrap(), (Ok(CacheStatus::Stale), SECOND));
    assert_eq!(second.await.unwrap(), (Err(LookupError::DeadlineExceeded), 2 * SECOND));
    assert_eq!(third.await.unwrap(), (Ok(CacheStatus::Stale), 3 * SECOND));
    assert_eq!(front.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_with_under_50_ms_left() {
    for (within, calls) in [(Duration::ZERO, 0), (millis(1), 0), (millis(49), 0), (millis(50), 1)] {
        let front = Front::new(unlimited(), |_| Reply::picture().after(SECOND));
        let outcome = front.ask(contact(1).within(within)).await;
        assert_eq!(
            (told(&outcome), front.calls()),
            (Err(LookupError::DeadlineExceeded), calls),
            "{within:?}"
        );
        assert!(front.time() <= within);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_place_ends_at_the_deadline() {
    let concurrency = ConcurrencySettings { attempts: 1 };
    let front = Front::new(Settings { concurrency, ..plain() }, |_| Reply::picture().after(5 * SECOND));
    let outcomes = front.ask_all([contact(1), contact(2).within(SECOND)]).await;
    assert_eq!(told(&outcomes[0]), Ok(CacheStatus::Miss));
    assert_eq!(told(&outcomes[1]), Err(LookupError::DeadlineExceeded));
    // The permit comes less than 50 ms before the deadline, which is too late for an attempt.
    let outcomes = front.ask_all([contact(3), contact(4).within(millis(5_040))]).await;
    assert_eq!(told(&outcomes[1]), Err(LookupError::DeadlineExceeded));
    assert_eq!(front.calls(), 2);
}
