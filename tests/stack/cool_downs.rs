//! Cool-downs: a key that has just failed is not asked again at once (rule 8).

use std::time::Duration;

use hypersender_grpc::{
    domain::{Again, CacheStatus, LookupError, Rejected},
    stack::{CacheSettings, RateSettings, Settings},
};
use tokio::time::{advance, sleep};

use crate::support::*;

fn failing(error: LookupError) -> Front {
    Front::new(plain(), move |_| Reply::fails(error.clone()))
}

fn wait(outcome: &Outcome) -> Duration {
    outcome.as_ref().unwrap_err().retry_after().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_key_cools_down_for_a_second_and_then_longer_each_time() {
    for error in [unavailable(), LookupError::TimedOut { retry_after: None }] {
        let front = failing(error);
        for (failures, seconds) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
            assert_eq!(wait(&front.ask(contact(1)).await), seconds * SECOND);
            // Until then the answer is the same error, with the rest of the wait.
            sleep(millis(400)).await;
            assert_eq!(wait(&front.ask(contact(1)).await), seconds * SECOND - millis(400));
            assert_eq!(front.calls(), failures + 1);
            sleep(seconds * SECOND - millis(400)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cool_down_is_that_of_one_key_until_an_answer_or_a_rest() {
    let cache = CacheSettings { refresh_floor: Duration::ZERO, ..CacheSettings::default() };
    let front = Front::new(Settings { cache, ..plain() }, |attempt| match attempt.of_key {
        3 => Reply::null(),
        _ => Reply::fails(unavailable()),
    });
    for seconds in [1, 2] {
        assert_eq!(wait(&front.ask(contact(1)).await), seconds * SECOND);
        sleep(seconds * SECOND).await;
    }
    assert_eq!(wait(&front.ask(contact(2)).await), SECOND, "another key");
    front.ask(contact(1)).await.unwrap();
    let anew = contact(1).anew().stale_if_error(Duration::ZERO);
    assert_eq!(wait(&front.ask(anew).await), SECOND, "answered since");

    let front = failing(unavailable());
    assert_eq!(wait(&front.ask(contact(1)).await), SECOND);
    sleep(31 * SECOND).await;
    assert_eq!(wait(&front.ask(contact(1)).await), SECOND, "a rest of 30 s");
}

#[tokio::test(start_paused = true)]
async fn upstream_can_lengthen_a_cool_down() {
    let retry_after = Some(7 * SECOND);
    let front = failing(LookupError::Unavailable { retry_after, again: Again::Yes });
    assert_eq!(wait(&front.ask(contact(1)).await), 7 * SECOND);
    sleep(6 * SECOND).await;
    assert_eq!(wait(&front.ask(contact(1)).await), SECOND);
    assert_eq!(front.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_concerns_the_instance_cools_down_all_its_contacts() {
    for error in [
        LookupError::CredentialsRejected(Rejected::Own),
        LookupError::InstanceStarting,
        LookupError::InstanceNotConnected,
    ] {
        let front = failing(error.clone());
        for chat in 0..10 {
            assert_eq!(told(&front.ask(contact(chat)).await), Err(error.clone()));
        }
        assert_eq!(front.calls(), 1, "{error:?}");
        // The cool-down holds for one instance and one token only.
        let _ = front.ask(contact(0).of("other")).await;
        let _ = front.ask(contact(0).with_token("other")).await;
        assert_eq!(front.calls(), 3, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_one_moment_are_one() {
    let front = Front::new(plain(), |_| {
        Reply::fails(LookupError::CredentialsRejected(Rejected::Own)).after(millis(10))
    });
    front.ask_all((0..30).map(contact)).await;
    sleep(SECOND).await;
    let _ = front.ask(contact(1)).await;
    assert_eq!(front.calls(), 31, "a second later it is asked again");
    sleep(millis(1_900)).await;
    let _ = front.ask(contact(1)).await;
    assert_eq!(front.calls(), 31, "and after that in two");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_request_and_our_own_refusals_cool_down_nothing() {
    let front = failing(LookupError::RequestRejected);
    for _ in 0..3 {
        let _ = front.ask(contact(1)).await;
    }
    assert_eq!(front.calls(), 3);

    let rate = RateSettings { per_second: 1.0, burst: 1 };
    let front = Front::new(Settings { rate, ..plain() }, |_| Reply::picture());
    front.ask(contact(0)).await.unwrap();
    assert!(front.ask(contact(1).within(millis(500))).await.is_err());
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Miss));
}

#[tokio::test(start_paused = true)]
async fn a_cool_down_answers_from_what_is_stored() {
    let front = Front::new(plain(), |attempt| match attempt.of_key {
        1 => Reply::picture(),
        _ => Reply::fails(unavailable()),
    });
    front.ask(contact(1)).await.unwrap();
    advance(2 * HOUR).await;
    for _ in 0..10 {
        assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Stale));
        assert!(front.ask(contact(1).stale_if_error(Duration::ZERO)).await.is_err());
    }
    assert_eq!(front.calls(), 2);
}
