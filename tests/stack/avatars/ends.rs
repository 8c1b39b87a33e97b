//! How the look-up for an image ends without an answer of Hypersender: at once where a stream would wait.

use hypersender_grpc::{
    domain::{CacheStatus, LookupError, Rejected},
    stack::{BreakerSettings, Settings},
};
use tokio::time::{Duration, advance, sleep};

use super::{avatars, limited, outcomes, use_burst};
use crate::support::*;

fn too_many(seconds: u64) -> LookupError {
    LookupError::UpstreamRateLimited { retry_after: Some(Duration::from_secs(seconds)) }
}

#[tokio::test(start_paused = true)]
async fn an_avatar_that_no_turn_can_reach_in_time_is_refused_at_once() {
    let front = Front::new(limited(1.0, 20), |_| Reply::picture());
    use_burst(&front, 15).await;
    let outcome = front.avatar(contact(1)).await;
    assert_eq!(told(&outcome), Err(LookupError::RateLimited { wait: 15 * SECOND }));
    assert_eq!((front.time(), front.calls()), (Duration::ZERO, 15));
    let lookups = |status| front.metric(&format!("hypersender_cache_lookups_total{{status=\"{status}\"}}"));
    assert_eq!((lookups("miss"), lookups("failed")), (15, 1));
    assert_eq!(front.metric("hypersender_rate_limited_total{purpose=\"avatar\"}"), 1);
    // The turn that is the last one in time is waited for.
    sleep(millis(5_100)).await;
    assert!(front.avatar(contact(1)).await.is_ok());
    assert_eq!(front.time(), 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn avatars_at_the_end_of_a_long_queue_are_refused_at_their_deadline() {
    let front = Front::new(limited(1.0, 1), |_| Reply::picture());
    let asked = avatars(&front, 0..20).await;
    let outcomes = outcomes(asked).await;
    assert_eq!(count(&outcomes, Result::is_ok), 10, "one each second, and the first one at once");
    assert!(outcomes[..10].iter().all(Result::is_ok));
    for outcome in &outcomes[10..] {
        let Err(LookupError::RateLimited { wait }) = told(outcome) else { panic!("{outcome:?}") };
        assert!((millis(50)..=2 * SECOND).contains(&wait), "{wait:?}");
    }
    assert_eq!(front.time(), 9 * SECOND, "no attempt could end in time after this turn");
    assert_eq!(front.metric("hypersender_flights"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_avatar_ends_at_its_deadline_whatever_it_waits_for() {
    // For the answer.
    let front = Front::new(limited(1.0, 5), |_| Reply::picture().after(5 * SECOND));
    let outcome = front.avatar(contact(1).within(3 * SECOND)).await;
    assert_eq!((told(&outcome), front.time()), (Err(LookupError::DeadlineExceeded), 3 * SECOND));
    // For a permit: streams and avatars have one flight.
    let front =
        Front::new(Settings { flights: 2, ..limited(5.0, 5) }, |_| Reply::picture().after(10 * SECOND));
    let stream = front.look_up(contacts([100]).of("other"));
    settle().await;
    let outcome = front.avatar(contact(1).within(3 * SECOND)).await;
    assert_eq!(told(&outcome), Err(LookupError::DeadlineExceeded));
    assert_eq!((front.time(), front.calls()), (millis(2_950), 1));
    assert_eq!(stream.await.unwrap().answers(), 1);
    // Without any time.
    let outcome = front.avatar(contact(1).within(Duration::ZERO)).await;
    assert_eq!(told(&outcome), Err(LookupError::DeadlineExceeded));
}

/// Checks that an avatar ends at once after `failures` failures of other contacts that fail with `error`.
/// Returns its error.
async fn ends_at_once(error: LookupError, failures: usize) -> LookupError {
    let settings = Settings { breaker: BreakerSettings::default(), ..limited(5.0, 20) };
    let front = Front::new(settings, move |attempt| match attempt.number {
        1 => Reply::picture(),
        _ => Reply::fails(error.clone()),
    });
    front.ask(contact(0)).await.unwrap();
    advance(HOUR + MINUTE).await;
    for chat in 1..=failures {
        assert!(front.ask(contact(chat)).await.is_err());
    }
    let (calls, time) = (front.calls(), front.time());
    let ended = told(&front.avatar(contact(100)).await).unwrap_err();
    assert_eq!((front.calls(), front.time()), (calls, time), "{ended:?}");
    // A usable answer takes its place, except that of a token that is not accepted any more.
    let stale = told(&front.avatar(contact(0)).await);
    let expected =
        if ended.handling().yields_to_stored_answer { Ok(CacheStatus::Stale) } else { Err(ended.clone()) };
    assert_eq!(stale, expected);
    assert_eq!(told(&front.avatar(contact(0).stale_if_error(Duration::ZERO)).await), Err(ended.clone()));
    assert_eq!((front.calls(), front.time()), (calls, time));
    ended
}

#[tokio::test(start_paused = true)]
async fn a_cool_down_a_breaker_a_pause_or_a_block_ends_an_avatar_at_once() {
    let starting = ends_at_once(LookupError::InstanceStarting, 1).await;
    assert_eq!(starting, LookupError::InstanceStarting);
    let rejected = LookupError::CredentialsRejected(Rejected::Own);
    assert_eq!(ends_at_once(rejected.clone(), 1).await, rejected);
    assert_eq!(ends_at_once(too_many(60), 1).await, too_many(60));
    let open = ends_at_once(unavailable(), 5).await;
    assert_eq!(open, LookupError::CircuitOpen { wait: 2 * SECOND });
    let blocked = ends_at_once(LookupError::Blocked { wait: Duration::ZERO }, 1).await;
    assert!(matches!(blocked, LookupError::Blocked { wait } if wait > 20 * SECOND), "{blocked:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cool_down_of_a_contact_ends_its_avatar_and_no_other() {
    let front = Front::new(limited(5.0, 20), |attempt| match attempt.chat.as_str() {
        "15550000001" => Reply::fails(unavailable()),
        _ => Reply::picture(),
    });
    assert!(front.ask(contact(1)).await.is_err());
    let outcome = front.avatar(contact(1)).await;
    assert!(matches!(told(&outcome), Err(LookupError::Unavailable { retry_after: Some(_), .. })));
    assert_eq!((front.calls(), front.time()), (1, Duration::ZERO));
    assert!(front.avatar(contact(2)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_begins_ends_the_avatars_that_wait() {
    let front = Front::new(limited(1.0, 3), |attempt| match attempt.number {
        1 | 2 => Reply::picture(),
        _ => Reply::fails(too_many(60)),
    });
    use_burst(&front, 2).await;
    let asked = avatars(&front, 0..5).await;
    sleep(millis(300)).await;
    assert!(front.ask(contact(100)).await.is_err());
    for outcome in outcomes(asked).await {
        let Err(LookupError::UpstreamRateLimited { retry_after }) = told(&outcome) else {
            panic!("{outcome:?}");
        };
        assert!(retry_after.is_some_and(|wait| wait >= 59 * SECOND), "{retry_after:?}");
    }
    assert!(front.time() <= millis(1_300), "{:?}", front.time());
    assert_eq!(front.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_hypersender_to_an_avatar_is_its_result() {
    let front = Front::new(limited(5.0, 20), |attempt| match attempt.chat.as_str() {
        "15550000001" => Reply::null(),
        "15550000002" => Reply::fails(LookupError::RequestRejected),
        _ => Reply::fails(unavailable()).after(SECOND),
    });
    assert_eq!(told(&front.avatar(contact(1)).await), Ok(CacheStatus::Miss));
    assert_eq!(told(&front.avatar(contact(2)).await), Err(LookupError::RequestRejected));
    let failed = told(&front.avatar(contact(3)).await);
    assert!(matches!(failed, Err(LookupError::Unavailable { .. })), "{failed:?}");
    assert_eq!(front.calls(), 3, "an avatar is not asked for again");
    let not_cached = front.avatar(contact(9).only_if_cached()).await;
    assert_eq!((told(&not_cached), front.calls()), (Err(LookupError::NotCached), 3));
}
