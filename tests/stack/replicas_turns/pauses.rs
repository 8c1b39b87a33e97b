//! A 429 that one replica gets holds for all of them.

use hypersender_grpc::{domain::LookupError, stack::ConcurrencySettings};
use tokio::time::sleep;

use super::*;

/// The pause that Hypersender asks for.
const PAUSE: Duration = Duration::from_secs(2);
/// The time until all replicas know of it.
const KNOWN: Duration = millis(100);

/// Lets callers of three replicas ask, of whom one gets a 429. Returns the times of the attempts and that of
/// the 429.
async fn check_pause(settings: Settings, takes: Duration) -> (Vec<Duration>, Duration) {
    let replicas = Replicas::new(move |attempt| match attempt.number {
        20 => {
            let pause = LookupError::UpstreamRateLimited { retry_after: Some(PAUSE) };
            Reply::fails(pause).after(takes)
        }
        _ => Reply::picture().after(takes),
    });
    let mut fronts = Vec::new();
    for _ in 0..3 {
        fronts.push(replicas.one_with(settings.clone()).await);
    }
    let stalls = Stalls::measure();
    let demand = Demand::of(&fronts, CALLERS, 1);
    while replicas.calls() < 20 {
        sleep(millis(10)).await;
    }
    sleep(PAUSE + SECOND).await;
    let (_, errors) = demand.end().await;
    // Nobody else is told, except who asks while the contact cools down.
    assert_eq!(errors.len(), 1, "{errors:?}");
    let attempts = replicas.upstream.attempts();
    let refused = attempts[19].at + takes;
    let times: Vec<_> = attempts.iter().map(|attempt| attempt.at).collect();
    let begin = refused + KNOWN + stalls.longest();
    let inside = times.iter().filter(|time| (begin..refused + PAUSE).contains(*time)).count();
    assert_eq!(inside, 0, "{refused:?}: {times:?}");
    assert!(times.last().unwrap() > &(refused + PAUSE), "it ends");
    (times, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_replica_asks_in_a_pause_and_there_is_no_burst_after_it() {
    let (times, refused) = check_pause(limited(), millis(20)).await;
    let after: Vec<_> = times.into_iter().filter(|time| *time > refused + PAUSE).collect();
    let first = after.iter().filter(|time| **time < refused + PAUSE + SECOND / 2).count();
    assert!(first <= 5 + 1 + 3, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_without_a_limit_and_for_those_who_wait_for_a_permit() {
    let free = RateSettings { per_second: 0.0, burst: 0 };
    check_pause(Settings { rate: free, ..plain() }, millis(20)).await;
    let one = ConcurrencySettings { attempts: 2 };
    check_pause(Settings { rate: free, concurrency: one, ..plain() }, millis(150)).await;
}
