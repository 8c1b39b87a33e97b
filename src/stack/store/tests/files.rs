//! A store in a file, which one process has after the other.

use std::path::Path;

use super::*;
use crate::{
    domain::Instance,
    stack::store::{Horizon, UNSHARED},
};

const ONE: &str = "15551230001";

async fn open(path: &Path) -> Replica {
    Replica::open(Place::File { path: path.into(), bytes: 1 << 20 }, TIMEOUT, Arc::default()).await
}

#[tokio::test]
async fn a_restart_finds_answers_rejections_and_turns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let shop = Instance::parse("shop").unwrap();

    let first = open(&path).await;
    assert!(!first.store.shares_turns());
    assert_eq!(first.store.horizon(&shop), None);
    let stored = first.fetch(ONE).await;
    let ahead = Instant::now() + LONG;
    let horizon = Horizon { free_at: ahead, spare_at: ahead, paused_until: ahead, changes: UNSHARED };
    first.store.remember(&shop, horizon);
    assert_eq!(first.store.horizon(&shop), Some(horizon));
    first.store.close().await;

    let second = open(&path).await;
    assert_eq!(second.answer(ONE).await, Some(stored));
    let read = second.store.horizon(&shop).unwrap();
    for at in [read.free_at, read.spare_at, read.paused_until] {
        assert!(at.max(ahead) - at.min(ahead) < Duration::from_secs(5), "{at:?} {ahead:?}");
    }
    sleep(Duration::from_millis(5)).await;
    let (scope, credential) = scope("token");
    second.store.reject(&scope, &credential, Instant::now());
    second.store.close().await;

    let third = open(&path).await;
    third.heard.scopes.lock().push(scope);
    assert_eq!(third.answer(ONE).await, None);
    assert_eq!(third.heard.rejected.lock().len(), 1);
    taken(third.read(ONE, None).await);
}

#[tokio::test]
async fn a_process_that_begins_with_turns_lets_them_go_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (shop, now) = (Instance::parse("shop").unwrap(), Instant::now());
    let horizon = |at| Horizon { free_at: at, spare_at: at, paused_until: at, changes: UNSHARED };
    let first = open(&path).await;
    first.store.remember(&shop, horizon(now + LONG));
    // A turn was given back. Only this process has turns, so it may also bring the horizon nearer.
    first.store.remember(&shop, horizon(now + LONG / 2));
    assert_eq!(first.store.horizon(&shop), Some(horizon(now + LONG / 2)));
    first.store.close().await;
    let read = open(&path).await.store.horizon(&shop).unwrap().free_at;
    assert!(read < now + LONG / 2 + Duration::from_secs(5));
}
