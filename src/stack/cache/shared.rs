//! The part of [`PictureCache`] that takes over what the shared store and the other replicas know.

use std::sync::Arc;

use dashmap::Entry as MapEntry;
use tokio::time::Instant;

use super::{Entry, PictureCache, entry_bytes, recorded, standing::Row};
use crate::{
    domain::{Finding, Key, NotFound, Now, Scope},
    stack::store::{Listener, Store, StoreClock, Stored},
};

impl PictureCache {
    /// Takes an answer of `store` into memory, as [`Self::adopt`] does.
    ///
    /// A rejection that came since it was read has not hidden it if memory had nothing else of its scope. So
    /// it is looked for again.
    pub(super) fn take_over(&self, key: &Key, stored: Stored, store: &Store, now: Now) -> Option<Entry> {
        let asked_at = stored.asked_at;
        let entry = self.adopt(key, stored, store.clock(), now);
        let Some(at) = store.rejection(&key.scope, asked_at) else { return entry };
        self.revoke(&key.scope, at);
        self.get(key)
    }

    /// Takes an answer of the store into memory. Returns the entry that is in force now, also when memory has
    /// no room for it. `None` when the answer may not be used: its token was rejected after it, its link
    /// leads to a host that is not allowed, or its times cannot be read.
    pub(super) fn adopt(&self, key: &Key, stored: Stored, clock: &StoreClock, now: Now) -> Option<Entry> {
        // An attempt from the future began before the clock of the store was set back. It cannot be compared
        // with a rejection.
        let began = Some(clock.instant(stored.asked_at)?).filter(|began| *began <= now.instant);
        let read = recorded::entry(stored.record, clock, now).filter(|entry| self.allows(entry))?;
        self.put(key, began, |previous, is_hidden| {
            (!is_hidden).then(|| Entry::adopt(previous, read, &self.settings))
        })
    }

    /// Whether every link of the entry leads to a host that this process may give out. A record may be older
    /// than the settings.
    fn allows(&self, entry: &Entry) -> bool {
        let allow = |finding: &Finding| match finding {
            Finding::Picture(link) => self.settings.link_hosts.allow(link),
            Finding::Absent(_) | Finding::NotFound(_) => true,
        };
        allow(&entry.finding) && entry.since.as_ref().is_none_or(|since| allow(&since.finding))
    }

    /// Drops the answer of `key` if Hypersender was asked for it before `asked_at`.
    ///
    /// The slot stays in the queue of the evictions and holds only `asked_at` until then, because the queue
    /// cannot be searched. The row that hides it costs a hit nothing.
    fn drop_older(&self, key: &Key, asked_at: Instant) {
        let digest = self.digest(key);
        let MapEntry::Occupied(mut occupied) = self.map.entry(digest) else { return };
        let slot = occupied.get_mut();
        if slot.entry.asked_at() >= asked_at || self.is_dropped(&slot.standing) {
            return;
        }
        let row = std::mem::replace(&mut slot.standing, self.dropped.clone());
        let before = entry_bytes(&slot.entry);
        slot.entry.finding = Finding::NotFound(NotFound::Upstream);
        slot.entry.since = None;
        slot.entry.fetched.instant = asked_at;
        self.exchange_bytes(before, entry_bytes(&slot.entry));
        self.standings.release(row);
    }

    /// Whether the answer with this row was dropped.
    pub(super) fn is_dropped(&self, row: &Row) -> bool {
        Arc::ptr_eq(row, &self.dropped)
    }
}

impl Listener for PictureCache {
    fn rejected(&self, scope: &Scope, at: Instant) {
        self.revoke(scope, at);
    }

    fn changed(&self, key: &Key, asked_at: Instant) {
        self.drop_older(key, asked_at);
    }

    fn scopes(&self) -> Vec<Scope> {
        self.standings.scopes()
    }
}
