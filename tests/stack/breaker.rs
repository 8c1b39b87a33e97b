//! The circuit breaker: an instance that keeps failing is not asked (rule 20).

use hypersender_grpc::{
    domain::{Absence, Again, CacheStatus, Finding, LookupError, NotFound, Rejected},
    stack::{BreakerSettings, RateSettings, Settings},
};
use tokio::time::{Duration, sleep};

use crate::support::*;

fn guarded() -> Settings {
    Settings { breaker: BreakerSettings { failures: 5 }, ..plain() }
}

/// Asks about a new contact, so that no cool-down answers.
async fn ask_new(front: &Front) -> Outcome {
    front.ask(contact(1_000 + usize::try_from(front.time().as_millis()).unwrap() * 100 + front.calls())).await
}

fn open(wait: Duration) -> Result<CacheStatus, LookupError> {
    Err(LookupError::CircuitOpen { wait })
}

/// A front whose breaker has just opened after five failures. From then on, `script` answers.
async fn opened(settings: Settings, script: fn(&Attempt) -> Reply) -> Front {
    let front = Front::new(settings, move |attempt| match attempt.number {
        1..=5 => Reply::fails(unavailable()),
        _ => script(attempt),
    });
    for _ in 0..5 {
        assert!(matches!(told(&ask_new(&front).await), Err(LookupError::Unavailable { .. })));
    }
    front
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_it_for_this_instance() {
    let front = opened(guarded(), |_| Reply::picture()).await;
    assert_eq!(told(&ask_new(&front).await), open(2 * SECOND));
    sleep(millis(500)).await;
    assert_eq!(told(&ask_new(&front).await), open(millis(1_500)));
    assert_eq!((front.calls(), front.time()), (5, millis(500)), "at once, and nobody was asked");
    assert_eq!(told(&front.ask(contact(1).of("other")).await), Ok(CacheStatus::Miss));
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_longer_each_time() {
    let front = opened(guarded(), |_| Reply::fails(unavailable())).await;
    for seconds in [2, 4, 8, 16, 32, 60, 60] {
        let wait = seconds * SECOND;
        assert_eq!(told(&ask_new(&front).await), open(wait));
        sleep(wait).await;
        assert!(matches!(told(&ask_new(&front).await), Err(LookupError::Unavailable { .. })), "{wait:?}");
    }
}

/// Opens the breaker with failures that ask for these waits, in seconds. All attempts are in flight together
/// and fail one after the other, a tenth of a second apart. After the last failure, callers must get the wait
/// `expected`.
async fn check_asked(waits: &'static [u64], expected: Duration) {
    let front = Front::new(guarded(), |attempt| {
        let retry_after = Some(Duration::from_secs(waits[attempt.number - 1])).filter(|wait| !wait.is_zero());
        let late = u32::try_from(attempt.number).unwrap() * millis(100);
        Reply::fails(LookupError::Unavailable { retry_after, again: Again::No }).after(late)
    });
    front.ask_all((0..waits.len()).map(contact)).await;
    assert_eq!(told(&front.ask(contact(99)).await), open(expected), "{waits:?}");
    sleep(expected - millis(1)).await;
    assert_eq!(told(&front.ask(contact(99)).await), open(millis(1)), "{waits:?}: until its end");
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_for_as_long_as_upstream_asked() {
    check_asked(&[120, 120, 120, 120, 120], 120 * SECOND).await;
    check_asked(&[1, 1, 1, 1, 1], 2 * SECOND).await;
    check_asked(&[0, 0, 120, 0, 0], 120 * SECOND - millis(200)).await;
    check_asked(&[120, 0, 0, 0, 60], 120 * SECOND - millis(400)).await;
    // The last failures belong to attempts that were in flight when the breaker opened.
    check_asked(&[0, 0, 0, 0, 0, 0, 120], 120 * SECOND).await;
    check_asked(&[0, 0, 0, 0, 0, 0, 0], 2 * SECOND - millis(200)).await;

    // A failed probe can ask for a wait, too. A longer wait does not change the doubling of the others.
    let front = opened(guarded(), |attempt| match attempt.number {
        6 => Reply::fails(LookupError::Unavailable { retry_after: Some(90 * SECOND), again: Again::No }),
        _ => Reply::fails(unavailable()),
    })
    .await;
    for seconds in [2, 90, 8] {
        assert_eq!(told(&ask_new(&front).await), open(seconds * SECOND));
        sleep(seconds * SECOND).await;
        assert!(matches!(told(&ask_new(&front).await), Err(LookupError::Unavailable { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time() {
    let front = opened(guarded(), |_| Reply::picture().after(SECOND)).await;
    sleep(2 * SECOND).await;
    let outcomes = front.ask_all((0..100).map(contact)).await;
    assert_eq!(told(&outcomes[0]), Ok(CacheStatus::Miss));
    assert_eq!(count(&outcomes, |outcome| told(outcome) == open(SECOND)), 99);
    assert_eq!(front.calls(), 6);
    assert!(ask_new(&front).await.is_ok());
}

/// Checks whether the breaker closes when the probe is answered with `reply`.
async fn check_probe(reply: fn(&Attempt) -> Reply, closes: bool) {
    let front = opened(guarded(), reply).await;
    sleep(2 * SECOND).await;
    let probe = told(&ask_new(&front).await);
    // The next call has another token, because the one of the probe may cool down. After a 429 it waits for a
    // second.
    let next = told(&front.ask(contact(1).with_token("other")).await);
    assert_eq!(!matches!(next, Err(LookupError::CircuitOpen { .. })), closes, "{probe:?}, then {next:?}");
}

#[tokio::test(start_paused = true)]
async fn any_answer_to_the_probe_closes_it() {
    check_probe(|_| Reply::picture(), true).await;
    check_probe(|_| Reply::null(), true).await;
    check_probe(|_| Reply::says(Ok(Finding::NotFound(NotFound::Upstream))), true).await;
    check_probe(|_| Reply::fails(LookupError::UpstreamRateLimited { retry_after: None }), true).await;
    check_probe(|_| Reply::fails(LookupError::CredentialsRejected(Rejected::Own)), true).await;
    check_probe(|_| Reply::fails(LookupError::RequestRejected), true).await;
    check_probe(|_| Reply::fails(LookupError::InstanceNotConnected), true).await;
    check_probe(|_| Reply::fails(LookupError::ResponseInvalid), true).await;
    check_probe(|_| Reply::fails(LookupError::Queued), true).await;
    check_probe(|_| Reply::fails(unavailable()), false).await;
    check_probe(|_| Reply::fails(LookupError::TimedOut { retry_after: None }), false).await;
}

/// Checks the number of attempts before the breaker opens. F is a failure, A is an answer, and a blank is a
/// pause of 31 s.
async fn check_pattern(pattern: &'static str, made: usize) {
    let script: Vec<_> = pattern.chars().filter(|what| *what != ' ').collect();
    let front = Front::new(guarded(), move |attempt| match script[attempt.number - 1] {
        'A' => Reply::says(Ok(Finding::Absent(Absence::ForeignLink))),
        _ => Reply::fails(unavailable()),
    });
    for what in pattern.chars() {
        match what {
            ' ' => sleep(31 * SECOND).await,
            _ if matches!(told(&ask_new(&front).await), Err(LookupError::CircuitOpen { .. })) => break,
            _ => {}
        }
    }
    assert_eq!(front.calls(), made, "{pattern}");
}

#[tokio::test(start_paused = true)]
async fn fewer_answers_than_failures_of_the_last_30_s_open_it() {
    check_pattern("FFFFAFFFFAFFFFA", 15).await;
    check_pattern("FFFFAFFFFAFFFFAFFFFAFFFFA", 20).await;
    check_pattern("AFAFAFAFAFAFAFAFAFAFAFAFAF", 26).await;
    check_pattern("FFFFAFFFFAFFFFA FFFFAFFFFAFFFFA", 30).await;
    check_pattern("FFFFAFFFFF", 10).await;
    check_pattern("FFFF FF", 5).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_failure_to_answer_does_not_open_it() {
    for error in [
        LookupError::ResponseInvalid,
        LookupError::RequestRejected,
        LookupError::Queued,
        LookupError::UpstreamRateLimited { retry_after: Some(millis(1)) },
    ] {
        let failing = error.clone();
        let front = Front::new(guarded(), move |_| Reply::fails(failing.clone()));
        for _ in 0..30 {
            let _ = ask_new(&front).await;
            sleep(millis(2)).await;
        }
        assert_eq!(front.calls(), 30, "{error:?}");
    }
    let off = Settings { breaker: BreakerSettings { failures: 0 }, ..plain() };
    let front = Front::new(off, |_| Reply::fails(unavailable()));
    front.ask_all((0..100).map(contact)).await;
    assert_eq!(front.calls(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_refused_gives_its_place_back() {
    let rate = RateSettings { per_second: 0.01, burst: 5 };
    let front = opened(Settings { rate, ..guarded() }, |_| Reply::picture()).await;
    sleep(2 * SECOND).await;
    for _ in 0..3 {
        assert!(matches!(told(&ask_new(&front).await), Err(LookupError::RateLimited { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_everybody_has_left_gives_its_place_back() {
    let rate = RateSettings { per_second: 0.25, burst: 5 };
    let front = opened(Settings { rate, ..guarded() }, |_| Reply::picture()).await;
    sleep(2 * SECOND).await;
    // The rate limit allows the next attempt after 4 s.
    let probe = front.spawn(contact(1));
    settle().await;
    assert_eq!(told(&ask_new(&front).await), open(SECOND));
    probe.abort();
    sleep(3 * SECOND).await;
    assert_eq!(front.calls(), 5);
    assert_eq!(told(&ask_new(&front).await), Ok(CacheStatus::Miss));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_gives_its_place_back() {
    let front = opened(guarded(), |attempt| match attempt.number {
        6 => Reply::panics(),
        _ => Reply::picture(),
    })
    .await;
    sleep(2 * SECOND).await;
    assert_eq!(told(&ask_new(&front).await), Err(LookupError::Internal));
    assert_eq!(told(&ask_new(&front).await), Ok(CacheStatus::Miss));
}
