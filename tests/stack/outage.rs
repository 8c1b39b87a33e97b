//! An outage of upstream: stored answers that are still usable replace errors (rules 6 and 9).

use std::time::Duration;

use hypersender_grpc::{
    domain::{CacheStatus, Finding, LookupError, Rejected},
    stack::{BreakerSettings, Settings},
};
use tokio::time::advance;

use crate::support::*;

/// A front whose upstream answers each key once with `finding`, and with `error` from then on.
fn dies_after(settings: Settings, finding: Finding, error: LookupError) -> Front {
    Front::new(settings, move |attempt| match attempt.of_key {
        1 => Reply::says(Ok(finding.clone())),
        _ => Reply::fails(error.clone()).after(millis(100)),
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_answers_for_a_dead_upstream() {
    let breaker = BreakerSettings { failures: 5 };
    let front = dies_after(Settings { breaker, ..unlimited() }, link(10 * DAY), unavailable());
    front.ask_all((0..1_000).map(contact)).await;
    advance(2 * HOUR).await;
    let is_stale = |outcome: &Outcome| told(outcome) == Ok(CacheStatus::Stale);
    let first = front.ask_all((0..1_000).map(contact)).await;
    assert_eq!(count(&first, is_stale), 1_000);
    // The breaker is open by now. Therefore no request goes to upstream and no caller waits.
    let (calls, time) = (front.calls(), front.time());
    for _ in 0..3 {
        let next = front.ask_all((0..1_000).map(contact)).await;
        assert_eq!(count(&next, is_stale), 1_000);
    }
    assert_eq!((front.calls(), front.time()), (calls, time));
}

#[tokio::test(start_paused = true)]
async fn a_stored_link_answers_until_its_last_minute() {
    for (before_end, expected) in [(61, Ok(CacheStatus::Stale)), (60, Err(()))] {
        let front = dies_after(plain(), link(2 * HOUR), unavailable());
        front.ask(contact(1)).await.unwrap();
        advance(2 * HOUR - Duration::from_secs(before_end) - millis(100)).await;
        let outcome = front.ask(contact(1)).await;
        assert_eq!(front.time(), 2 * HOUR - Duration::from_secs(before_end));
        assert_eq!(told(&outcome).map_err(|_| ()), expected);
        if let Err(error) = outcome {
            assert!(matches!(error, LookupError::Unavailable { .. }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_link_masks_no_word_about_the_contact_or_the_credential() {
    for (error, masked) in [
        (unavailable(), true),
        (LookupError::TimedOut { retry_after: None }, true),
        (LookupError::ResponseInvalid, true),
        (LookupError::Queued, true),
        (LookupError::InstanceStarting, true),
        (LookupError::InstanceNotConnected, true),
        (LookupError::CredentialsRejected(Rejected::Own), false),
        (LookupError::RequestRejected, false),
    ] {
        let front = dies_after(plain(), link(10 * DAY), error.clone());
        front.ask(contact(1)).await.unwrap();
        advance(2 * HOUR).await;
        let outcome = front.ask(contact(1)).await;
        let expected = if masked { Ok(CacheStatus::Stale) } else { Err(error.clone()) };
        assert_eq!(told(&outcome), expected, "{error:?}");
        // A caller that accepts no stale answer gets the error.
        advance(HOUR).await;
        assert!(front.ask(contact(1).stale_if_error(Duration::ZERO)).await.is_err(), "{error:?}");
    }
}
