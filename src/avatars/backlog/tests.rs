//! What waits, for how long, and who takes it out.

use std::hash::RandomState;

use tokio::time::advance;

use super::*;
use crate::domain::{ChatId, Instance, Scope};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn pending(number: usize) -> Pending {
    let credential = Credential::new("token".into(), &RandomState::new());
    let instance = Instance::parse("shop").unwrap();
    let chat = ChatId::parse(&(15_550_000_000 + number).to_string()).unwrap();
    let scope = Scope { instance, credential: Credential::new("x".into(), &hasher()).id() };
    Pending { key: Key { scope, chat }, credential, since: Instant::now() }
}

/// The same for all contacts of a test.
fn hasher() -> RandomState {
    thread_local!(static HASHER: RandomState = RandomState::new());
    HASHER.with(Clone::clone)
}

/// The contact that is to be looked up next.
fn taken(worker: &mut Worker<'_>) -> Key {
    match worker.step() {
        Step::LookUp(pending) => pending.key,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn contacts_wait_once_and_leave_in_order() {
    let backlog = Backlog::default();
    for number in [1, 2, 1, 3, 2] {
        assert!(backlog.add(pending(number)), "no worker takes them out");
    }
    let mut worker = backlog.worker().unwrap();
    assert!(backlog.worker().is_none() && !backlog.add(pending(4)));
    assert_eq!(taken(&mut worker), pending(1).key);
    assert!(!backlog.has(&pending(1).key) && backlog.has(&pending(2).key));
    // It is asked for again, and comes last.
    assert!(!backlog.add(pending(1)));
    for number in [2, 3, 4, 1] {
        assert_eq!(taken(&mut worker), pending(number).key);
    }
    assert!(matches!(worker.step(), Step::End));
    assert!(backlog.add(pending(1)), "the worker is gone");
    let second = backlog.worker().unwrap();
    drop(worker);
    assert!(backlog.worker().is_none(), "one that has ended does not end the next one");
    drop(second);
    assert!(backlog.worker().is_some(), "one that is dropped makes room");
}

#[tokio::test(start_paused = true)]
async fn contacts_over_the_limit_are_dropped_and_old_ones_make_room() {
    let backlog = Backlog::default();
    for number in 0..1010 {
        backlog.add(pending(number));
    }
    assert!(backlog.has(&pending(999).key) && !backlog.has(&pending(1000).key));
    advance((15 * MINUTE).checked_sub(SECOND).unwrap()).await;
    backlog.add(pending(1000));
    assert!(!backlog.has(&pending(1000).key));
    advance(SECOND).await;
    backlog.add(pending(1000));
    assert!(backlog.has(&pending(1000).key) && !backlog.has(&pending(0).key));
    let mut worker = backlog.worker().unwrap();
    assert_eq!(taken(&mut worker), pending(1000).key);
    assert!(matches!(worker.step(), Step::End));
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_put_back_keeps_its_age() {
    let backlog = Backlog::default();
    let first = pending(1);
    advance(10 * MINUTE).await;
    backlog.add(pending(2));
    backlog.add(first.clone());
    advance((5 * MINUTE).checked_sub(SECOND).unwrap()).await;
    let mut worker = backlog.worker().unwrap();
    assert_eq!(taken(&mut worker), pending(2).key);
    assert!(backlog.has(&first.key));
    advance(SECOND).await;
    assert!(matches!(worker.step(), Step::End));
    backlog.add(first.clone());
    assert!(!backlog.has(&first.key), "it is too old to be put back");
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_in_a_pause() {
    let backlog = Backlog::default();
    backlog.add(pending(1));
    backlog.pause(3 * SECOND);
    backlog.pause(SECOND);
    let mut worker = backlog.worker().unwrap();
    let end = Instant::now() + 3 * SECOND;
    assert!(matches!(worker.step(), Step::PauseUntil(until) if until == end));
    advance(3 * SECOND).await;
    assert_eq!(taken(&mut worker), pending(1).key);
    backlog.add(pending(2));
    backlog.clear();
    assert!(!backlog.has(&pending(2).key));
    backlog.pause(SECOND);
    assert!(matches!(worker.step(), Step::End), "there is nothing to wait for");
}
