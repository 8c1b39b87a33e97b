//! What is kept for each instance is bounded and dropped when it is idle, since callers choose the names (behaviour 20).

use std::time::Duration;

use hypersender_grpc::{
    domain::LookupError,
    stack::{BreakerSettings, RateSettings, Settings},
};
use tokio::time::advance;

use crate::support::*;

/// As many as there is room for.
const INSTANCES: usize = 10_000;

/// Made-up instances fill the room; `time` later their states are gone, and whoever comes then is served.
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
    // Open for 2 s, and not held against the instance for longer than it may be open.
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
