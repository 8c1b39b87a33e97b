//! Rejected tokens: written to the store, announced, and looked for in the scopes that memory holds.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    attachment::Done, engine::Failed, news::ScopeNews, parts::Parts, scopes::Known, time::StoreTime,
};
use crate::{
    domain::{Credential, Scope},
    telemetry::StoreOperation as Operation,
};

/// The most records that one operation reads, and the most rejections that are written at a time.
const GROUP: usize = 64;

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
    for group in parts.rejections.all().chunks(GROUP) {
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
    // Without a record, replicas may still have answers in memory. A token that never had an answer is no
    // news.
    let known_at = parts.clock.at(at).filter(|_| known.had_record());
    if let Some(at) = flag.max(known_at) {
        known.reject(at);
        let news = ScopeNews::Rejected { at };
        parts.announce(news.seal(parts.process, known.tag, &known.keys.news));
    }
    Ok(())
}

/// Reads the records of all scopes that memory holds, and drops from memory what was fetched with tokens that
/// were rejected meanwhile. A record that is missing drops nothing.
pub async fn check_scopes(parts: &Parts) -> Result<(), Failed> {
    let Some(listener) = parts.listener.get() else {
        return Ok(());
    };
    let scopes: Vec<_> = listener.scopes().iter().filter_map(|scope| parts.scopes.get(scope)).collect();
    for group in scopes.chunks(GROUP) {
        let names: Vec<_> = group.iter().map(|known| known.name.clone()).collect();
        let done = parts.guard.maintain(Operation::Scopes, parts.backend.scopes(&names)).await?;
        for (known, state) in group.iter().zip(done.value) {
            known.note(state);
            if let Some(at) = state.and_then(|state| state.rejected_at) {
                tell(parts, known, at);
            }
        }
    }
    Ok(())
}

/// Drops from memory what was fetched before a rejection.
pub fn tell(parts: &Parts, known: &Known, rejected_at: StoreTime) {
    known.reject(rejected_at);
    // A time before the clock of this machine began is before everything in memory.
    if let (Some(listener), Some(at)) = (parts.listener.get(), parts.clock.instant(rejected_at)) {
        listener.rejected(&known.scope, at);
    }
}
