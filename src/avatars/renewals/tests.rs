//! The renewals on a stopped clock.

#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

use tokio::time::{advance, timeout};

use super::*;
use crate::telemetry::{Metrics, MetricsForm};

const SECOND: Duration = Duration::from_secs(1);

fn renewals() -> Renewals {
    Renewals::new(Metrics::new(&[]).with_avatars())
}

/// How a renewal ends.
#[derive(Clone, Copy)]
enum End {
    Taken,
    Refused,
    Unknown,
}

/// Begins as many renewals as it may, at most `times`, one after the other.
async fn renew(renewals: &Renewals, times: usize, end: End) -> usize {
    let mut begun = 0;
    for _ in 0..times {
        let Some(renewal) = renewals.begin().await else {
            break;
        };
        begun += 1;
        match end {
            End::Taken => renewal.taken(),
            End::Refused => renewal.refused(),
            End::Unknown => drop(renewal),
        }
    }
    begun
}

#[tokio::test(start_paused = true)]
async fn links_are_renewed_while_the_cdn_takes_some_of_them() {
    let renewals = renewals();
    for _ in 0..10 {
        assert_eq!(renew(&renewals, 4, End::Refused).await, 4);
        assert_eq!(renew(&renewals, 1, End::Taken).await, 1);
    }
    assert_eq!(renew(&renewals, 50, End::Unknown).await, 50, "the CDN was not asked");
}

#[tokio::test(start_paused = true)]
async fn after_five_refusals_there_is_one_trial_in_ten_minutes() {
    let mut metrics = Metrics::new(&[]);
    let renewals = Renewals::new(metrics.with_avatars());
    let is_paused = |paused: u8| {
        let line = format!("hypersender_avatar_link_renewals_paused {paused}");
        metrics.text(MetricsForm::Prometheus).lines().any(|found| found == line)
    };
    assert!(is_paused(0));
    let mut begun = renew(&renewals, 1000, End::Refused).await;
    assert_eq!(begun, 5);
    assert!(is_paused(1));
    for _ in 0..3600 {
        advance(SECOND).await;
        begun += renew(&renewals, 10, End::Refused).await;
    }
    assert_eq!(begun, 5 + 6);
    assert!(is_paused(1));
    advance(PAUSE).await;
    assert_eq!(renew(&renewals, 1, End::Taken).await, 1);
    assert!(is_paused(0));
    assert_eq!(renew(&renewals, 1000, End::Refused).await, 5, "the count begins again");
}

#[tokio::test(start_paused = true)]
async fn a_trial_without_an_outcome_prolongs_the_pause() {
    let renewals = renewals();
    renew(&renewals, 5, End::Refused).await;
    advance(PAUSE).await;
    let trial = renewals.begin().await.unwrap();
    assert!(renewals.begin().await.is_none(), "one trial at a time");
    drop(trial);
    advance(PAUSE - SECOND).await;
    assert!(renewals.begin().await.is_none());
    advance(SECOND).await;
    assert!(renewals.begin().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn renewals_at_the_same_time_are_not_more_than_may_be_refused() {
    let renewals = renewals();
    let mut begun = Vec::new();
    for _ in 0..5 {
        begun.push(renewals.begin().await.unwrap());
    }
    assert!(timeout(SECOND, renewals.begin()).await.is_err(), "the next one waits for an outcome");
    begun.pop().unwrap().taken();
    let next = renewals.begin().await.unwrap();
    let waiting = async {
        let renewal = renewals.begin().await;
        renewal.is_none()
    };
    let refusals = async {
        for renewal in begun.into_iter().chain([next]) {
            renewal.refused();
        }
    };
    let (is_denied, ()) = tokio::join!(waiting, refusals);
    assert!(is_denied, "all five were refused");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_taken_late_ends_the_pause() {
    let renewals = renewals();
    let early = renewals.begin().await.unwrap();
    renew(&renewals, 4, End::Refused).await;
    {
        let mut phase = renewals.phase.lock();
        *phase = Phase::Paused { until: Instant::now() + PAUSE };
    }
    assert!(renewals.begin().await.is_none());
    early.taken();
    assert!(renewals.begin().await.is_some());
}
