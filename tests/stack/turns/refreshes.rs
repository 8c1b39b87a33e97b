//! The refreshes that batches and streams set off take spare turns, and start only while there is one.

use std::sync::Arc;

use hypersender_grpc::{
    domain::{BatchTurns, CacheStatus, QueuePlace},
    stack::Settings,
};
use tokio::{
    sync::Semaphore,
    time::{advance, sleep},
};

use super::limited;
use crate::support::*;

/// A front whose answers for these contacts have become stale.
async fn with_stale_answers(contacts: usize, settings: Settings) -> Front {
    let front = Front::new(settings, |_| Reply::picture().after(millis(100)));
    for chat in 0..contacts {
        front.ask(contact(chat)).await.unwrap();
    }
    advance(HOUR).await;
    front
}

/// Reads them and returns the number of stale answers.
async fn read_all(front: &Front, contacts: usize, reader: impl Fn(Ask) -> Ask) -> usize {
    let mut stale = 0;
    for chat in 0..contacts {
        stale += usize::from(told(&front.ask(reader(contact(chat))).await) == Ok(CacheStatus::Stale));
    }
    settle().await;
    stale
}

#[tokio::test(start_paused = true)]
async fn many_stale_answers_start_no_more_refreshes_than_there_are_spare_turns() {
    let batch = BatchTurns::new(None);
    for reader in [&(|ask: Ask| ask.in_stream()) as &dyn Fn(Ask) -> Ask, &|ask: Ask| ask.in_batch(&batch)] {
        // Further fetches than two at a time would be refused.
        let front = with_stale_answers(200, Settings { flights: 2, ..limited(5.0, 20) }).await;
        assert_eq!(read_all(&front, 200, reader).await, 200);
        assert_eq!(front.calls(), 200 + 1);
        assert_eq!(front.metric("hypersender_flights"), 1);
        read_all(&front, 200, reader).await;
        assert_eq!(front.calls(), 200 + 1, "the next spare turn comes in 200 ms");
        assert!(front.ask(contact(1_000)).await.is_ok());
        sleep(SECOND).await;
        assert_eq!(read_all(&front, 200, reader).await, 199, "one is fresh again");
        assert_eq!(front.calls(), 200 + 3, "the time has brought one more");
        assert_eq!(front.metric("hypersender_rate_limited_total{purpose=\"refresh\"}"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_for_a_stream_leaves_the_burst_to_callers_and_one_for_a_caller_uses_it() {
    for (in_stream, calls) in [(true, 0), (false, 1)] {
        let front = with_stale_answers(1, limited(5.0, 20)).await;
        front.ask(contact(50)).await.unwrap();
        let before = front.calls();
        let reader = |ask: Ask| if in_stream { ask.in_stream() } else { ask };
        assert_eq!(read_all(&front, 1, reader).await, 1);
        assert_eq!(front.calls(), before + calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_for_a_stream_does_not_hold_the_place_of_the_stream() {
    let front = with_stale_answers(1, limited(5.0, 20)).await;
    let queue = Arc::new(Semaphore::new(1));
    let place = QueuePlace::new(queue.clone().try_acquire_owned().unwrap());
    read_all(&front, 1, |ask| ask.at_place(&place)).await;
    assert_eq!((front.calls(), queue.available_permits()), (2, 0), "the stream keeps it");
    drop(place);
    assert_eq!(queue.available_permits(), 1);
}
