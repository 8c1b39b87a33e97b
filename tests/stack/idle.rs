//! The state of each instance: it is bounded, and it is dropped when it is idle, because callers choose the
//! names of instances (rule 20).

use std::time::Duration;

use hypersender_grpc::{
    domain::LookupError,
    stack::{BreakerSettings, RateSettings, Settings},
};
use tokio::time::advance;

use crate::support::*;

/// The number of instances that have room.
const INSTANCES: usize = 10_000;

/// Checks that invented instances fill the room, and that `time` later their states are gone and a new one is
/// served.
async fn check(reply: Reply, time: Duration) {
    let settings = Settings {
        breaker: BreakerSettings { failures: 1 },
        rate: RateSettings::default(),
        retry: plain().retry,
        ..unlimited()
    };
    let front = Front::new(settings, move |attempt| match attempt.instance.as_str() {
        "newcomer" => Reply::picture(),
        _ => reply.clone(),
    });
    front.ask_all((0..INSTANCES).map(|chat| contact(chat).of(format!("made-up-{chat}")))).await;
    assert_eq!((front.calls(), front.circuits()), (INSTANCES, INSTANCES));
    let newcomer = || front.ask(contact(1).of("newcomer"));
    assert_eq!(told(&newcomer().await), Err(LookupError::Overloaded), "no room yet");
    advance(time).await;
    newcomer().await.unwrap();
    assert_eq!(front.circuits(), 1, "the newcomer's alone");
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_left_alone_make_room() {
    check(Reply::picture(), SECOND).await;
    check(Reply::fails(LookupError::UpstreamRateLimited { retry_after: None }), 60 * SECOND).await;
    // The breaker is open for 2 s, and its state is kept for as long as it may be open at most.
    check(Reply::fails(unavailable()), 62 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_in_trouble_stay_while_they_are() {
    let front = Front::new(Settings { breaker: BreakerSettings { failures: 1 }, ..plain() }, |_| {
        Reply::fails(unavailable())
    });
    front.ask_all((0..INSTANCES).map(|chat| contact(chat).of(format!("made-up-{chat}")))).await;
    advance(SECOND).await;
    assert_eq!(told(&front.ask(contact(1).of("newcomer")).await), Err(LookupError::Overloaded));
    assert_eq!(front.circuits(), INSTANCES);
}
