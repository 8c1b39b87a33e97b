//! A CDN in front of Hypersender blocks this machine: all instances pause together.

use hypersender_grpc::{
    domain::{Again, CacheStatus, Finding, LookupError, NotFound, Rejected},
    stack::{BreakerSettings, RateSettings, Settings},
};
use tokio::time::{Duration, advance, sleep};

use crate::support::*;

fn blocked(wait: Duration) -> Result<CacheStatus, LookupError> {
    Err(LookupError::Blocked { wait })
}

/// A block without a hint about its end.
fn block_page() -> Reply {
    Reply::fails(LookupError::Blocked { wait: Duration::ZERO })
}

/// A front whose first attempt was blocked. From the second attempt on, `script` answers.
async fn turned_away(settings: Settings, script: fn(&Attempt) -> Reply) -> Front {
    let front = Front::new(settings, move |attempt| match attempt.number {
        1 => block_page(),
        _ => script(attempt),
    });
    assert_eq!(told(&front.ask(contact(0)).await), blocked(30 * SECOND));
    front
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_longer_each_time() {
    let front = turned_away(plain(), |_| block_page()).await;
    for (probes, seconds) in [30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
        sleep(millis(500)).await;
        let wait = seconds * SECOND - millis(500);
        for ask in [contact(1), contact(2).of("other"), contact(3).with_token("other")] {
            assert_eq!(told(&front.ask(ask).await), blocked(wait), "whatever is asked");
        }
        assert_eq!(front.calls(), probes + 1);
        sleep(wait).await;
        let next = (seconds * 2).min(600) * SECOND;
        assert_eq!(told(&front.ask(contact(1)).await), blocked(next));
    }
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_finds_out_that_it_is_over() {
    let front = turned_away(plain(), |_| Reply::picture().after(SECOND)).await;
    sleep(30 * SECOND).await;
    let outcomes = front.ask_all((0..100).map(|chat| contact(chat).of(format!("instance-{chat}")))).await;
    assert_eq!(count(&outcomes, |outcome| told(outcome) == Ok(CacheStatus::Miss)), 1);
    assert_eq!(count(&outcomes, |outcome| told(outcome) == blocked(SECOND)), 99);
    assert_eq!(front.calls(), 2);
    let outcomes = front.ask_all((100..200).map(contact)).await;
    assert_eq!(count(&outcomes, Result::is_ok), 100);
}

/// Checks the wait that the next caller gets after a probe was answered with `reply`.
async fn check_probe(reply: fn(&Attempt) -> Reply, expected: Option<Duration>) {
    let front = turned_away(plain(), reply).await;
    sleep(30 * SECOND).await;
    let probe = told(&front.ask(contact(1)).await);
    let next = told(&front.ask(contact(2).of("other")).await);
    let wait = match next {
        Err(LookupError::Blocked { wait }) => Some(wait),
        _ => None,
    };
    assert_eq!(wait, expected, "{probe:?}, then {next:?}");
}

#[tokio::test(start_paused = true)]
async fn any_answer_of_the_api_ends_it() {
    check_probe(|_| Reply::picture(), None).await;
    check_probe(|_| Reply::says(Ok(Finding::NotFound(NotFound::Upstream))), None).await;
    check_probe(|_| Reply::fails(LookupError::UpstreamRateLimited { retry_after: None }), None).await;
    check_probe(|_| Reply::fails(LookupError::CredentialsRejected(Rejected::Own)), None).await;
    check_probe(|_| Reply::fails(LookupError::ResponseInvalid), None).await;
    check_probe(|_| block_page(), Some(60 * SECOND)).await;
    // After a probe that panics, the next call is a probe. It panics, too.
    check_probe(|_| Reply::panics(), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_an_answer_ends_nothing_and_asks_for_no_longer_pause() {
    for lost in [
        unavailable(),
        LookupError::Unavailable { retry_after: None, again: Again::No },
        LookupError::SentAway,
        LookupError::TimedOut { retry_after: None },
    ] {
        let row = format!("{lost:?}");
        let front = Front::new(plain(), move |attempt| match attempt.number {
            1 | 2 | 5 => block_page(),
            _ => Reply::fails(lost.clone()),
        });
        for (probe, (seconds, failure)) in
            [(30, false), (60, false), (60, true), (60, true), (120, false), (120, true)]
                .into_iter()
                .enumerate()
        {
            let told_first = told(&front.ask(contact(probe)).await);
            assert_eq!(told_first != blocked(seconds * SECOND), failure, "{row}, {probe}: {told_first:?}");
            // Another contact, since the one that was asked about may cool down.
            assert_eq!(told(&front.ask(contact(99)).await), blocked(seconds * SECOND), "{row}, {probe}");
            assert_eq!(front.calls(), probe + 1, "{row}");
            sleep(seconds * SECOND).await;
        }
    }
    check_probe(
        |_| Reply::fails(LookupError::Unavailable { retry_after: Some(90 * SECOND), again: Again::No }),
        Some(90 * SECOND),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_block_after_an_answer_is_a_first_one() {
    let front = turned_away(plain(), |attempt| match attempt.number {
        3 => Reply::picture(),
        _ => block_page(),
    })
    .await;
    sleep(30 * SECOND).await;
    assert_eq!(told(&front.ask(contact(1)).await), blocked(60 * SECOND));
    sleep(60 * SECOND).await;
    assert!(front.ask(contact(1)).await.is_ok());
    assert_eq!(told(&front.ask(contact(2)).await), blocked(30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_turned_away_together_are_one_block_and_no_failures() {
    let settings = Settings { breaker: BreakerSettings { failures: 5 }, ..plain() };
    let front = Front::new(settings, |attempt| match attempt.number {
        1..=30 => block_page().after(millis(10)),
        _ => Reply::picture(),
    });
    let outcomes = front.ask_all((0..30).map(contact)).await;
    assert_eq!(count(&outcomes, |outcome| told(outcome) == blocked(30 * SECOND)), 30);
    sleep(30 * SECOND).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Miss), "no breaker is open");
}

#[tokio::test(start_paused = true)]
async fn upstream_can_ask_for_a_longer_pause() {
    for (asked, wait) in [(100, 100), (7, 30)] {
        let front = Front::new(plain(), move |_| {
            Reply::fails(LookupError::Blocked { wait: Duration::from_secs(asked) })
        });
        assert_eq!(told(&front.ask(contact(1)).await), blocked(wait * SECOND));
        assert_eq!(told(&front.ask(contact(2)).await), blocked(wait * SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_turn_is_not_sent_into_a_block() {
    let rate = RateSettings { per_second: 1.0, burst: 1 };
    let front = Front::new(Settings { rate, ..plain() }, |_| block_page().after(millis(100)));
    let outcomes = front.ask_all((0..5).map(contact)).await;
    assert_eq!(count(&outcomes, |outcome| matches!(told(outcome), Err(LookupError::Blocked { .. }))), 5);
    assert_eq!(front.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_answers_meanwhile() {
    let front = Front::new(plain(), |attempt| match (attempt.chat.as_str(), attempt.of_key) {
        ("15550000001", 1) => Reply::picture(),
        _ => block_page(),
    });
    front.ask(contact(1)).await.unwrap();
    // The answer is no longer fresh. It may still be served during a background refresh.
    advance(HOUR + 60 * SECOND).await;
    assert_eq!(told(&front.ask(contact(2)).await), blocked(30 * SECOND));
    for _ in 0..3 {
        assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
        settle().await;
    }
    assert_eq!(front.calls(), 2, "no refresh");
    // The answer is too old for that now. It may still replace an error.
    sleep(30 * SECOND).await;
    advance(2 * HOUR).await;
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale), "the probe's own");
    assert_eq!(told(&front.ask(contact(1).stale_if_error(Duration::ZERO)).await), blocked(60 * SECOND));
    assert_eq!(front.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_the_network_in_front_does_not_end_it() {
    let half_a_minute = Some(30 * SECOND);
    check_probe(|_| Reply::fails_in_front(LookupError::ResponseInvalid), half_a_minute).await;
    check_probe(|_| Reply::fails_in_front(LookupError::RequestRejected), half_a_minute).await;
    check_probe(|_| Reply::fails_in_front(LookupError::CredentialsRejected(Rejected::Own)), half_a_minute)
        .await;
    check_probe(
        |_| Reply::fails_in_front(LookupError::UpstreamRateLimited { retry_after: None }),
        half_a_minute,
    )
    .await;
    check_probe(
        |_| Reply::fails_in_front(LookupError::UpstreamRateLimited { retry_after: Some(90 * SECOND) }),
        Some(90 * SECOND),
    )
    .await;
    check_probe(|_| block_page(), Some(60 * SECOND)).await;
}
