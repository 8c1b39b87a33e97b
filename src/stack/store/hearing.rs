//! The reading of the news of other replicas.

use std::sync::Arc;

use tokio::{sync::mpsc, time::Instant};

use super::{
    booking,
    engine::Heard,
    news::{News, ScopeMessage, ScopeNews, returned},
    parts::Parts,
    revocation::{check_scopes, tell},
};
use crate::{domain::Key, telemetry::StoreOutcome};

/// Does what the messages say, until there are no more.
pub async fn hear(parts: Arc<Parts>, mut messages: mpsc::Receiver<Heard>) {
    while let Some(heard) = messages.recv().await {
        match heard {
            // Messages may be lost. While the store is away, its return does the same.
            Heard::Subscribed if parts.guard.is_attached() => {
                parts.announce(Some(returned(parts.process)));
                let _ = check_scopes(&parts).await;
            }
            Heard::Subscribed => {}
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
