//! Replicas that share one rate limit: all requests together stay within it, whatever happens to the store.
//!
//! The times are those at which requests arrive at the upstream. A request may be late by as long as this
//! process was stopped, which is measured, so the bounds do not depend on the speed of the machine.

mod file;
mod outages;
mod pauses;
mod sharing;

use std::time::Duration;

use hypersender_grpc::{
    domain::LookupError,
    stack::{RateSettings, Settings},
};

use crate::support::*;

/// Requests per second.
const RATE: f64 = 10.0;
/// Requests at once.
const BURST: u32 = 10;
/// Callers of each replica. All of them together wait for longer than the burst takes.
const CALLERS: usize = 5;
/// One turn more for each replica.
const REPLICAS: f64 = 3.0;
/// The time of a reply of the store, and of a timer.
const INEXACT: Duration = millis(30);

fn limited() -> Settings {
    Settings { rate: RateSettings { per_second: RATE, burst: BURST }, ..plain() }
}

async fn three(replicas: &Replicas) -> [Front; 3] {
    [
        replicas.one_with(limited()).await,
        replicas.one_with(limited()).await,
        replicas.one_with(limited()).await,
    ]
}

/// By how many the requests in a window exceed the burst and `rate`, at most.
fn excess(times: &[Duration], rate: f64) -> f64 {
    let mut most = f64::MIN;
    for (first, start) in times.iter().enumerate() {
        for (more, end) in times[first..].iter().enumerate() {
            let allowed = f64::from(BURST) + rate * (*end - *start).as_secs_f64();
            most = most.max(f64::from(u32::try_from(more + 1).unwrap()) - allowed);
        }
    }
    most
}

/// The instants of all attempts.
fn times(upstream: &Upstream) -> Vec<Duration> {
    upstream.attempts().iter().map(|attempt| attempt.at).collect()
}

/// Checks that no window has more requests than the burst and `rate` allow, and `more`.
fn check(upstream: &Upstream, rate: f64, more: f64, stalls: &Stalls) {
    let late = rate * (stalls.longest() + INEXACT).as_secs_f64();
    let times = times(upstream);
    let excess = excess(&times, rate);
    eprintln!("{} requests, {excess:.2} more than allowed; {late:.2} for lateness", times.len());
    assert!(excess <= more + late, "{excess} > {more} + {late}: {times:?}");
}

/// Checks that callers got their answers.
fn all_answered((answered, errors): (usize, Vec<LookupError>)) -> usize {
    assert_eq!(errors, [], "of {answered}");
    answered
}
