//! The reading of the news of other replicas.

use std::sync::Arc;

use tokio::{sync::mpsc, time::Instant};
use tracing::{info, warn};

use super::{
    booking,
    engine::{Failed, Heard},
    news::{News, ScopeMessage, ScopeNews, returned},
    parts::Parts,
    revocation::{check_scopes, tell},
};
use crate::{domain::Key, telemetry::StoreOutcome};

/// The attempts to subscribe that fail in a row before there is a warning. At the start, and when a server
/// has come back, one may fail.
const TRIES: u32 = 5;

/// The attempts to subscribe since the last one that succeeded.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Notes an attempt that failed. Returns whether it is worth a warning. While the store is away, there is
    /// one for that.
    fn failed(&mut self, is_attached: bool) -> bool {
        self.0 = self.0.saturating_add(u32::from(is_attached));
        is_attached && self.0 == TRIES
    }

    /// Notes that an attempt has succeeded. Returns whether there was a warning.
    fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.0) >= TRIES
    }
}

/// Does what the messages say, until there are no more.
pub async fn hear(parts: Arc<Parts>, mut messages: mpsc::Receiver<Heard>) {
    let mut tries = Tries::default();
    while let Some(heard) = messages.recv().await {
        match heard {
            Heard::Subscribed => {
                if tries.succeeded() {
                    info!("the news of other replicas can be heard again");
                }
                // Messages may be lost. While the store is away, its return does the same.
                if parts.guard.is_attached() {
                    parts.announce(Some(returned(parts.process)));
                    let _ = check_scopes(&parts).await;
                }
            }
            Heard::NotSubscribed(Failed { cause }) => {
                if tries.failed(parts.guard.is_attached()) {
                    warn!(cause, "the news of other replicas cannot be heard; this one learns of them late");
                }
            }
            Heard::Message(message) => receive(&parts, &message),
        }
    }
}

fn receive(parts: &Parts, message: &[u8]) {
    let outcome = match News::read(message, parts.process) {
        Some(News::Own) => return,
        Some(News::Turns(instance, turns)) => {
            booking::hear(parts, instance, turns);
            StoreOutcome::Ok
        }
        Some(News::Returned) => {
            parts.announce_again.notify_one();
            StoreOutcome::Ok
        }
        Some(News::Scope(message)) => receive_scope(parts, &message),
        None => StoreOutcome::Unreadable,
    };
    parts.metrics.received(outcome);
}

fn receive_scope(parts: &Parts, message: &ScopeMessage<'_>) -> StoreOutcome {
    // Memory holds nothing of a scope that this process never met.
    let Some(known) = parts.scopes.tagged(&message.tag) else {
        return StoreOutcome::Ok;
    };
    match message.open(&known.keys.news) {
        Some(ScopeNews::Rejected { at }) => tell(parts, &known, at),
        Some(ScopeNews::Changed { chat, asked_at }) => {
            let key = Key { scope: known.scope.clone(), chat };
            if let (Some(listener), Some(at)) = (parts.listener.get(), parts.clock.instant(asked_at)) {
                // No change is from the future, even when the clocks disagree.
                listener.changed(&key, at.min(Instant::now()));
            }
        }
        None => return StoreOutcome::Unreadable,
    }
    StoreOutcome::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_to_subscribe_that_fail_while_the_store_is_attached_are_reported_once() {
        let mut tries = Tries::default();
        assert!(!tries.succeeded());
        for _ in 0..3 {
            assert!((0..9).all(|_| !tries.failed(false)));
            assert_eq!((0..9).filter(|_| tries.failed(true)).count(), 1);
            assert!(tries.succeeded());
            assert_eq!((1..TRIES).filter(|_| tries.failed(true)).count(), 0);
            assert!(!tries.succeeded(), "there was no warning");
        }
    }
}
