//! Retries: their causes, their number and their times (rules 15 to 17).

use std::{collections::HashSet, time::Duration};

use hypersender_grpc::{
    domain::{Absence, Again, CacheStatus, Finding, LookupError, NotFound, Rejected},
    stack::{BreakerSettings, RateSettings, RetrySettings, Settings},
};
use tokio::time::sleep;

use crate::support::*;

fn rate_limited(retry_after: Option<Duration>) -> LookupError {
    LookupError::UpstreamRateLimited { retry_after }
}

fn unavailable_for(retry_after: Duration) -> LookupError {
    LookupError::Unavailable { retry_after: Some(retry_after), again: Again::Yes }
}

/// The error without its wait.
fn kind(error: LookupError) -> LookupError {
    error.with_retry_after(Duration::ZERO)
}

#[tokio::test(start_paused = true)]
async fn an_error_is_tried_again_as_often_as_it_is_worth() {
    let unavailable = |again| LookupError::Unavailable { retry_after: None, again };
    for (error, attempts) in [
        (unavailable(Again::Yes), 3),
        (unavailable(Again::Once), 2),
        (unavailable(Again::No), 1),
        (LookupError::TimedOut { retry_after: None }, 3),
        (LookupError::InstanceStarting, 3),
        (LookupError::InstanceNotConnected, 1),
        (LookupError::CredentialsRejected(Rejected::Own), 1),
        (LookupError::RequestRejected, 1),
        (LookupError::Queued, 1),
        (LookupError::ResponseInvalid, 1),
        (rate_limited(Some(SECOND)), 3),
        (rate_limited(Some(2 * SECOND)), 3),
        (rate_limited(Some(millis(2_001))), 1),
        (rate_limited(None), 3),
    ] {
        let failing = error.clone();
        let front = Front::new(unlimited(), move |_| Reply::fails(failing.clone()));
        let outcome = front.ask(contact(1)).await;
        assert_eq!((outcome.map_err(kind).unwrap_err(), front.calls()), (kind(error), attempts));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_asked_for_again() {
    for finding in [
        link(DAY),
        Finding::Absent(Absence::Null),
        Finding::Absent(Absence::ForeignLink),
        Finding::NotFound(NotFound::Upstream),
    ] {
        let front = Front::new(unlimited(), move |_| Reply::says(Ok(finding.clone())));
        assert!(front.ask(contact(1)).await.is_ok());
        assert_eq!(front.calls(), 1);
    }
}

/// Checks the result and the number of attempts when upstream gives these answers one after the other.
async fn check_sequence(
    said: &[Result<Finding, LookupError>],
    expected: Result<Finding, LookupError>,
    attempts: usize,
) {
    let script = said.to_vec();
    let front = Front::new(unlimited(), move |attempt| {
        Reply::says(script[(attempt.number - 1).min(script.len() - 1)].clone())
    });
    let outcome = front.ask(contact(1)).await.map(|answer| answer.finding).map_err(kind);
    assert_eq!((outcome, front.calls()), (expected.map_err(kind), attempts), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_worth_one_retry_gets_one() {
    let once = || LookupError::Unavailable { retry_after: None, again: Again::Once };
    let dead = || Ok(link(60 * SECOND));
    let living = || Ok(link(DAY));
    check_sequence(&[dead(), living()], living(), 2).await;
    check_sequence(&[dead(), dead(), living()], dead(), 2).await;
    check_sequence(&[dead(), Err(once()), living()], dead(), 2).await;
    check_sequence(&[dead(), Err(unavailable())], dead(), 2).await;
    check_sequence(&[Err(unavailable()), dead(), Err(unavailable())], dead(), 3).await;
    check_sequence(&[Err(once()), Err(unavailable()), Err(once())], Err(once()), 3).await;
    // A link does not hide an error about the credential or the request.
    for error in [LookupError::CredentialsRejected(Rejected::Own), LookupError::RequestRejected] {
        check_sequence(&[dead(), Err(error.clone())], Err(error), 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_before_a_retry_is_random_within_a_bound_that_doubles_up_to_a_second() {
    let mut seen = [const { Vec::new() }; 7];
    for _ in 0..100 {
        let retry = RetrySettings { attempts: 8, budget: 0.1 };
        let front = Front::new(Settings { retry, ..unlimited() }, |_| Reply::fails(unavailable()));
        let _ = front.ask(contact(1)).await;
        let times = front.upstream.times();
        assert_eq!(times.len(), 8);
        times.windows(2).zip(&mut seen).for_each(|(pair, seen)| seen.push(pair[1] - pair[0]));
    }
    for (waits, bound) in seen.iter().zip([100, 200, 400, 800, 1_000, 1_000, 1_000]) {
        // The clock has a resolution of one millisecond.
        assert!(waits.iter().all(|wait| *wait <= bound + 1), "{bound}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait > bound / 2), "{bound}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait < bound / 2), "{bound}: {waits:?}");
    }
    assert!(seen[0].iter().collect::<HashSet<_>>().len() > 20, "each call draws anew");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_that_could_not_end_in_time() {
    for _ in 0..100 {
        let front = Front::new(unlimited(), |_| Reply::fails(unavailable()).after(millis(100)));
        let outcome = front.ask(contact(1).within(millis(300))).await;
        assert!(matches!(
            told(&outcome),
            Err(LookupError::Unavailable { .. } | LookupError::DeadlineExceeded)
        ));
        assert!(front.time() <= millis(300));
        sleep(10 * SECOND).await;
        assert!(front.upstream.times().iter().all(|at| *at <= 250), "{:?}", front.upstream.times());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_retry_reports_what_upstream_said() {
    let one_a_second = RateSettings { per_second: 1.0, burst: 1 };
    for (what, settings) in [
        ("limit", Settings { rate: one_a_second, ..unlimited() }),
        ("breaker", Settings { breaker: BreakerSettings { failures: 1 }, ..unlimited() }),
        ("budget", Settings { retry: RetrySettings { attempts: 3, budget: 0.0 }, ..unlimited() }),
    ] {
        let front = Front::new(settings, |_| Reply::fails(unavailable()));
        let outcome = front.ask(contact(1).within(millis(950))).await;
        assert_eq!(outcome.map(|_| ()).map_err(kind), Err(kind(unavailable())), "{what}");
        assert_eq!(front.calls(), 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn upstream_is_not_asked_again_before_it_wants_to_be() {
    for (error, wait) in [(unavailable_for(2 * SECOND), 2_000), (rate_limited(Some(2 * SECOND)), 2_000)] {
        let front = Front::new(unlimited(), move |attempt| match attempt.number {
            1 => Reply::fails(error.clone()),
            _ => Reply::picture(),
        });
        assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Miss));
        let second = front.upstream.times()[1];
        assert!((wait..=wait + 101).contains(&second), "{second}");
    }
    // If the wait is too long for the caller, the caller gets it in the error.
    for (error, within) in [
        (unavailable_for(20 * SECOND), 10 * SECOND),
        (unavailable_for(2 * SECOND), 2 * SECOND),
        (rate_limited(Some(2 * SECOND)), 2 * SECOND),
        (rate_limited(Some(5 * SECOND)), 10 * SECOND),
    ] {
        let failing = error.clone();
        let front = Front::new(unlimited(), move |_| Reply::fails(failing.clone()));
        let outcome = front.ask(contact(1).within(within)).await;
        assert_eq!((told(&outcome), front.calls(), front.time()), (Err(error), 1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn when_everything_fails_retries_stay_within_the_budget() {
    let front = Front::new(unlimited(), |_| Reply::fails(unavailable()));
    let calls: Vec<_> = (0..2_000)
        .map(|chat| {
            let front = front.clone();
            tokio::spawn(async move {
                sleep(millis(5) * u32::try_from(chat).unwrap()).await;
                let _ = front.ask(contact(chat)).await;
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(front.time() >= millis(9_995));
    let retries = front.calls() - 2_000;
    assert!(retries <= 200 + 13 + 3, "{retries}");
    assert!(retries >= 200, "the budget is there to be used: {retries}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_refused_pay_for_no_retry() {
    let front = Front::new(unlimited(), |attempt| match attempt.instance.as_str() {
        "paused" => Reply::fails(rate_limited(Some(300 * SECOND))),
        _ => Reply::fails(unavailable()),
    });
    front.ask_all((0..100).map(contact)).await;
    front.ask_all((0..500).map(|chat| contact(chat).of("paused").within(SECOND))).await;
    front.ask_all((500..1_000).map(|chat| contact(chat).of("paused").within(SECOND))).await;
    let paused = front.upstream.calls_of("paused");
    front.ask_all((100..200).map(contact)).await;
    let retries = front.upstream.calls_of("shop") - 200;
    assert!(paused <= 500, "the second half was refused: {paused}");
    assert!(retries <= 20 + 13 + 1 + paused / 10, "{retries}");
}
