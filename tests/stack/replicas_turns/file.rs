//! A process with a file goes on where the one before it stopped.

use std::path::Path;

use hypersender_grpc::{
    domain::LookupError,
    stack::{Clock, StorePlace},
};

use super::*;

/// Runs `before` on a process, ends it, and returns how long after that the next process asks.
async fn wait_after_restart(before: impl AsyncFnOnce(&Front), script: fn(&Attempt) -> Reply) -> Duration {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::following_tokio(wall());
    let upstream = Upstream::new(clock, script);
    let begin = async |path: &Path| {
        let store = store_at(StorePlace::File { path: path.to_owned(), bytes: 1 << 20 }).await;
        (Front::beside(limited(), Some(&store), clock, upstream.clone()), store)
    };
    let path = directory.path().join("store");
    let (front, store) = begin(&path).await;
    before(&front).await;
    store.close().await;
    drop((front, store));
    let (next, _store) = begin(&path).await;
    let (start, earlier) = (tokio::time::Instant::now(), upstream.attempts().len());
    next.ask(contact(1_000)).await.unwrap();
    assert_eq!(upstream.attempts().len(), earlier + 1);
    start.elapsed()
}

#[tokio::test]
async fn a_pause_holds_after_a_restart_and_without_one_a_turn_comes_at_once() {
    let ask = async |front: &Front| {
        let _ = front.ask(contact(1)).await;
    };
    let paused = wait_after_restart(ask, |attempt| match attempt.number {
        1 => Reply::fails(LookupError::UpstreamRateLimited { retry_after: Some(4 * SECOND) }),
        _ => Reply::picture(),
    });
    let idle = wait_after_restart(ask, |_| Reply::picture());
    let (paused, idle) = tokio::join!(paused, idle);
    assert!(paused > 2 * SECOND && idle < 2 * SECOND, "{paused:?} {idle:?}");
}
