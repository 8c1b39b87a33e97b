//! Rejected tokens: written to the store, announced, and looked for in the scopes that memory holds.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Unavailable,
    attachment::Done,
    engine::{Failed, GROUP_MAX},
    news::{ScopeNews, Sealed},
    parts::Parts,
    scopes::Known,
    time::StoreTime,
};
use crate::{
    domain::{Credential, Scope},
    telemetry::StoreOperation as Operation,
};

/// The most rejections that are announced together, the latest ones. Other replicas must be able to take the
/// messages of several replicas in at once.
const ANNOUNCED_MAX: usize = 256;

/// Notes a rejection. It counts in this process from now on; `upkeep` writes it.
pub fn reject(parts: &Parts, scope: &Scope, credential: &Credential, at: Instant) {
    let known = parts.scopes.of(scope, credential);
    if let Some(at) = parts.clock.at(at) {
        known.reject(at);
    }
    parts.rejections.add(known, at);
}

/// Writes all rejections that the store does not know of.
pub async fn write_rejections(parts: &Arc<Parts>) -> Result<(), Failed> {
    for group in parts.rejections.all().chunks(GROUP_MAX) {
        let written = join_all(group.iter().map(|(known, at)| write_rejection(parts, known, *at))).await;
        written.into_iter().collect::<Result<(), Failed>>()?;
    }
    Ok(())
}

async fn write_rejection(parts: &Arc<Parts>, known: &Arc<Known>, at: Instant) -> Result<(), Failed> {
    let ago = at.elapsed();
    let Done { value: flag, .. } =
        parts.guard.maintain(Operation::Reject, parts.backend.reject(&known.name, ago)).await?;
    parts.rejections.written(known, at);
    if flag.is_some() {
        known.has_record();
    }
    // Without a record, replicas may still have answers in memory. A token that never had an answer is no
    // news.
    let known_at = parts.clock.at(at).filter(|_| known.had_record());
    if let Some(at) = flag.max(known_at) {
        known.reject(at);
        parts.announce(news(parts, known, at));
    }
    Ok(())
}

/// Announces all rejections that this process knows and that no later answer has lifted. A replica that was
/// away may have missed them, and their records may be lost.
pub async fn announce_all(parts: &Parts) -> Result<(), Unavailable> {
    if !parts.backend.shares_turns() {
        return Ok(());
    }
    for group in parts.scopes.rejections(ANNOUNCED_MAX).chunks(GROUP_MAX) {
        let messages = group.iter().filter_map(|(known, at)| news(parts, known, *at));
        let sent = messages
            .map(|Sealed(message)| parts.guard.run(Operation::Publish, parts.backend.publish(message)));
        join_all(sent).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    Ok(())
}

fn news(parts: &Parts, known: &Known, at: StoreTime) -> Option<Sealed> {
    ScopeNews::Rejected { at }.seal(parts.process, known.tag, &known.keys.news)
}

/// Reads the records of all scopes that memory holds, and drops from memory what was fetched with tokens that
/// were rejected meanwhile. A record that is missing drops nothing. If this process knows of a rejection that
/// was in it, the others hear of it again.
///
/// A record that lacks a rejection which this process knows is from before it, as after a fail-over or from a
/// snapshot. The rejection is added to those to write; the store ignores it if a later attempt was answered.
pub async fn check_scopes(parts: &Arc<Parts>) -> Result<(), Failed> {
    let Some(listener) = parts.listener.get() else {
        return Ok(());
    };
    let scopes: Vec<_> = listener.scopes().iter().filter_map(|scope| parts.scopes.get(scope)).collect();
    for group in scopes.chunks(GROUP_MAX) {
        let names: Vec<_> = group.iter().map(|known| known.name.clone()).collect();
        let done = parts.guard.maintain(Operation::Scopes, parts.backend.scopes(&names)).await?;
        for (known, state) in group.iter().zip(done.value) {
            let Some(state) = state else {
                if let Some(at) = known.rejection() {
                    parts.announce(news(parts, known, at));
                }
                continue;
            };
            if let Some(now) = parts.clock.at(done.ended) {
                known.note(Some(state), now);
            }
            // The store keeps milliseconds.
            let known_at = known
                .rejected_at()
                .filter(|known_at| state.rejected_at.is_none_or(|flag| flag.millis() < known_at.millis()));
            if let Some(at) = known_at.and_then(|at| parts.clock.instant(at)) {
                parts.rejections.add(known.clone(), at.min(Instant::now()));
            }
            if let Some(at) = state.rejected_at {
                tell(parts, known, at);
            }
        }
    }
    Ok(())
}

/// Drops from memory what was fetched before a rejection. No rejection is from the future: when the clocks
/// disagree, it is one of now.
pub fn tell(parts: &Parts, known: &Known, rejected_at: StoreTime) {
    let now = Instant::now();
    let rejected_at = parts.clock.at(now).map_or(rejected_at, |now| rejected_at.min(now));
    known.reject(rejected_at);
    // A time before the clock of this machine began is before everything in memory.
    if let (Some(listener), Some(at)) = (parts.listener.get(), parts.clock.instant(rejected_at)) {
        listener.rejected(&known.scope, at.min(now));
    }
}
