//! The obstacles that a stream waits for, and the look-ups that count as failed.

use hypersender_grpc::{
    domain::{Again, CacheStatus, LookupError},
    stack::{BreakerSettings, Forecast, RetrySettings, Settings},
};
use tokio::time::{Duration, Instant, advance, sleep, timeout};

use super::paced;
use crate::support::*;

/// Fifty turns a second, a breaker, and one attempt for each fetch.
fn settings() -> Settings {
    Settings { breaker: BreakerSettings::default(), ..paced(50.0) }
}

fn starting() -> Reply {
    Reply::fails(LookupError::InstanceStarting)
}

fn too_many(seconds: u64) -> Reply {
    Reply::fails(LookupError::UpstreamRateLimited { retry_after: Some(Duration::from_secs(seconds)) })
}

fn block_page() -> Reply {
    Reply::fails(LookupError::Blocked { wait: Duration::ZERO })
}

fn failure() -> Reply {
    Reply::fails(unavailable())
}

/// Checks that every contact of a stream gets an answer, although `script` begins an obstacle in the middle.
/// Returns the time of the last answer.
async fn check(
    settings: Settings,
    script: impl Fn(&Attempt) -> Option<Reply> + Send + Sync + 'static,
) -> Duration {
    let front = Front::new(settings, move |attempt| {
        script(attempt).unwrap_or_else(Reply::picture).after(millis(100))
    });
    let ended = front.look_up(contacts(0..1_000)).await.unwrap();
    assert_eq!((ended.answers(), ended.errors(), ended.error), (1_000, vec![], None));
    front.time()
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_costs_no_contact() {
    // It opens once, for two seconds.
    let once = check(settings(), |attempt| (300..305).contains(&attempt.number).then(failure)).await;
    assert!((22 * SECOND..24 * SECOND).contains(&once), "{once:?}");
    // It opens again and again, for a minute.
    let down = 5 * SECOND..65 * SECOND;
    let minute = check(settings(), move |attempt| down.contains(&attempt.at).then(failure)).await;
    assert!(minute > 65 * SECOND, "{minute:?}");
    let again = Settings { retry: RetrySettings::default(), ..settings() };
    check(again, |attempt| (300..330).contains(&attempt.number).then(failure)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_a_minute_costs_no_contact() {
    let time = check(settings(), |attempt| (attempt.number == 300).then(|| too_many(60))).await;
    assert!((79 * SECOND..83 * SECOND).contains(&time), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn a_block_costs_no_contact() {
    // The two probes are blocked, too: 30 s, 60 s and 120 s.
    let blocked = |attempt: &Attempt| {
        (300..303).contains(&attempt.number) || attempt.at > 10 * SECOND && attempt.at < 100 * SECOND
    };
    let time = check(settings(), move |attempt| blocked(attempt).then(block_page)).await;
    assert!((220 * SECOND..260 * SECOND).contains(&time), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_starts_costs_no_contact() {
    let start = 5 * SECOND..40 * SECOND;
    let time = check(settings(), move |attempt| start.contains(&attempt.at).then(starting)).await;
    assert!((55 * SECOND..80 * SECOND).contains(&time), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn contacts_that_cool_down_go_to_the_end_and_hold_up_no_other() {
    let off = Settings { breaker: BreakerSettings { failures: 0 }, ..settings() };
    let time =
        check(off.clone(), |attempt| (attempt.of_key == 1 && attempt.number % 3 == 0).then(failure)).await;
    assert!(time < 30 * SECOND, "{time:?}");
    // Each of them is queued twice.
    let queued = || Reply::fails(LookupError::Queued);
    let time =
        check(off, move |attempt| (attempt.of_key <= 2 && attempt.chat.ends_with('7')).then(queued)).await;
    assert!(time < 40 * SECOND, "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn everything_at_once_costs_no_contact() {
    check(settings(), |attempt| match attempt.number {
        100..105 => Some(failure()),
        200 => Some(too_many(5)),
        300 => Some(block_page()),
        400 => Some(starting()),
        _ => None,
    })
    .await;
}

/// Checks the attempts for a contact whose look-ups all end in `error`, and that the error is its result.
async fn check_result(error: LookupError, attempts: usize) {
    let fails = error.clone();
    let front = Front::new(paced(50.0), move |attempt| match attempt.chat.as_str() {
        "15550000003" => Reply::fails(fails.clone()),
        _ => Reply::picture(),
    });
    let ended = front.look_up(contacts(0..10)).await.unwrap();
    assert_eq!((ended.answers(), ended.results.len()), (9, 10), "{error:?}");
    let outcome = told(&ended.results[&3].0).map_err(|found| std::mem::discriminant(&found));
    assert_eq!(outcome, Err(std::mem::discriminant(&error)));
    assert_eq!(front.calls(), 9 + attempts, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn the_second_failure_of_a_contact_is_its_result() {
    check_result(unavailable(), 2).await;
    check_result(LookupError::Unavailable { retry_after: None, again: Again::No }, 2).await;
    check_result(LookupError::TimedOut { retry_after: None }, 2).await;
    check_result(LookupError::SentAway, 2).await;
    check_result(LookupError::UpstreamRateLimited { retry_after: Some(SECOND) }, 2).await;
    // These wait like a cool-down, so the third one is the result.
    check_result(LookupError::Queued, 3).await;
    check_result(LookupError::InstanceStarting, 3).await;
    check_result(LookupError::RequestRejected, 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_third_cool_down_of_a_contact_is_its_result() {
    let front = Front::new(paced(0.01), |attempt| match attempt.chat.as_str() {
        "15550000001" => failure(),
        _ => Reply::picture(),
    });
    front.ask(contact(0)).await.unwrap();
    assert!(front.ask(contact(1)).await.is_err());
    // The contact cools down, and then waits for its turn. Other calls for it fail meanwhile, and take turns
    // of the burst.
    let stream = front.look_up(contacts([1]));
    for wait in [2, 4] {
        sleep(2 * SECOND).await;
        assert!(!stream.is_finished());
        let Err(LookupError::Unavailable { retry_after, .. }) = told(&front.ask(contact(1)).await) else {
            panic!("it does not fail");
        };
        assert_eq!(retry_after, Some(wait * SECOND));
        sleep(wait * SECOND).await;
    }
    let ended = stream.await.unwrap();
    assert!(matches!(ended.errors()[..], [LookupError::Unavailable { retry_after: Some(_), .. }]));
    assert_eq!(front.calls(), 4, "the stream asked nothing");
}

#[tokio::test(start_paused = true)]
async fn a_server_at_its_limit_is_asked_again_after_a_second() {
    let settings = Settings { flights: 1, ..paced(5.0) };
    let front = Front::new(settings, |attempt| {
        Reply::picture().after(if attempt.number == 1 { 5 * SECOND } else { SECOND })
    });
    let caller = front.spawn(contact(1_000));
    settle().await;
    let ended = front.look_up(contacts(0..5)).await.unwrap();
    assert!(caller.await.unwrap().is_ok());
    assert_eq!((ended.answers(), front.calls()), (5, 6));
    assert!(front.upstream.times()[1] <= 6_000, "{:?}", front.upstream.times());
}

/// A front that has stored 50 answers, which are usable only in place of an error. `script` answers later.
async fn stale(script: impl Fn(&Attempt) -> Option<Reply> + Send + Sync + 'static) -> Front {
    let front = Front::new(settings(), move |attempt| {
        let later = if attempt.at < HOUR { None } else { script(attempt) };
        later.unwrap_or_else(Reply::picture)
    });
    assert_eq!(front.look_up(contacts(0..50)).await.unwrap().answers(), 50);
    advance(2 * HOUR).await;
    front
}

fn is_stale(outcome: &Outcome) -> bool {
    told(outcome) == Ok(CacheStatus::Stale)
}

/// Checks that a stream gets stale answers at once while there is the obstacle that `script` begins, and
/// waits for the others.
async fn check_stale(script: impl Fn(&Attempt) -> Option<Reply> + Send + Sync + Clone + 'static) {
    for (most, stale_answers) in [(DAY, 50), (Duration::ZERO, 0)] {
        let front = stale(script.clone()).await;
        for chat in 100..105 {
            let _ = front.ask(contact(chat)).await;
        }
        let time = front.time();
        let ended = front.look_up(contacts(0..100).stale_if_error(most)).await.unwrap();
        assert_eq!((ended.answers(), ended.errors()), (100, vec![]));
        assert_eq!(ended.count(is_stale), stale_answers);
        let waited = ended.results.values().filter(|(outcome, at)| !is_stale(outcome) && *at > time + SECOND);
        assert_eq!(waited.count(), 100 - stale_answers);
        assert!(ended.results.values().all(|(outcome, at)| !is_stale(outcome) || *at == time));
    }
}

#[tokio::test(start_paused = true)]
async fn usable_answers_are_served_instead_of_waiting() {
    check_stale(|attempt| (attempt.number == 51).then(block_page)).await;
    check_stale(|attempt| (attempt.number == 51).then(starting)).await;
    check_stale(|attempt| (attempt.number == 51).then(|| too_many(60))).await;
    check_stale(|attempt| (51..56).contains(&attempt.number).then(failure)).await;
}

#[tokio::test(start_paused = true)]
async fn a_usable_answer_takes_the_place_of_a_cool_down_and_of_no_turn() {
    let front = stale(|attempt| (attempt.chat == "15550000007").then(failure)).await;
    let _ = front.ask(contact(7)).await;
    let time = front.time();
    let ended = front.look_up(contacts(0..50)).await.unwrap();
    assert_eq!((ended.answers(), ended.count(is_stale)), (50, 1));
    assert!(is_stale(&ended.results[&7].0));
    assert_eq!(ended.count(|outcome| told(outcome) == Ok(CacheStatus::Expired)), 49, "each took a turn");
    assert!(ended.last() > time + millis(900));
    assert_eq!(front.calls(), 50 + 1 + 49);
}

#[tokio::test(start_paused = true)]
async fn answers_are_served_before_an_instance_without_connection_ends_the_stream() {
    let front = stale(|_| Some(Reply::fails(LookupError::InstanceNotConnected))).await;
    let _ = front.ask(contact(100)).await;
    let ended = front.look_up(contacts((0..100).rev())).await.unwrap();
    assert_eq!((ended.count(is_stale), ended.results.len()), (50, 50));
    assert_eq!((ended.error, front.calls()), (Some(LookupError::InstanceNotConnected), 51));
}

#[tokio::test(start_paused = true)]
async fn the_forecast_names_the_end_of_an_obstacle() {
    let pauses = |reply: fn() -> Reply| {
        Front::new(paced(1.0), move |attempt| match attempt.number {
            1 => reply(),
            _ => Reply::picture(),
        })
    };
    for (front, seconds, is_pause) in
        [(pauses(|| too_many(60)), 60, true), (pauses(block_page), 30, true), (pauses(starting), 5, false)]
    {
        let end = Some(Instant::now() + Duration::from_secs(seconds));
        let _ = front.ask(contact(0)).await;
        let mut stream = front.stream(contacts(1..10));
        assert!(timeout(millis(500), stream.next()).await.is_err());
        let paused_until = end.filter(|_| is_pause);
        assert_eq!(stream.forecast(), Forecast { next_turn: end, paused_until });
        assert!(stream.next().await.unwrap().unwrap().result.is_ok());
        assert_eq!(stream.forecast().paused_until, None);
    }
}

#[tokio::test(start_paused = true)]
async fn each_obstacle_is_a_reason_to_look_into_memory_again() {
    let front = Front::new(paced(0.01), |attempt| match attempt.chat.as_str() {
        "15550000100" | "15550000101" => too_many(5),
        _ => Reply::picture(),
    });
    // The stream waits for the end of a pause, and then for its turn.
    let _ = front.ask(contact(100)).await;
    let stream = front.look_up(contacts([0, 1]));
    sleep(10 * SECOND).await;
    front.ask(contact(1)).await.unwrap();
    sleep(100 * SECOND).await;
    assert!(!stream.is_finished());
    let _ = front.ask(contact(101)).await;
    let pause = front.time();
    let ended = stream.await.unwrap();
    let (outcome, at) = &ended.results[&1];
    assert_eq!(told(outcome), Ok(CacheStatus::Hit));
    assert!(*at <= pause + SECOND, "{at:?}");
    assert!(ended.results[&0].1 >= 200 * SECOND);
}
