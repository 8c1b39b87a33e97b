//! [`Lease`]: the right of one replica to fetch a contact while the others wait.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    engine::{Epoch, LeaseId, Names, Write, Written},
    news::ScopeNews,
    parts::Parts,
    record::{FailureRecord, Record},
    scopes::Known,
    seal::seal,
    time::StoreTime,
    wire,
};
use crate::{
    domain::{ChatId, Reach},
    telemetry::StoreOperation as Operation,
};

/// A third of the life of a lease, so that one renewal may fail.
const RENEWAL: Duration = Duration::from_secs(1);
/// How often an answer is sealed: the scope's record may have gone, or come back, since it was read.
const SEALS: usize = 3;
/// A cool-down is kept this long after its end, because a failure that follows soon cools down for longer.
const REMEMBERED: Duration = Duration::from_secs(30);

/// A lease of 3 s, which [`Lease::keep`] renews. A lease that is dropped is released in the background.
#[derive(Debug)]
pub struct Lease {
    /// `None` once it needs no release.
    held: Option<Box<Held>>,
    /// Whether a renewal came too late. Then another replica may have it, and there is nothing to release.
    is_lost: AtomicBool,
}

/// The contact of a lease, and what was read about it.
#[derive(Debug)]
pub struct Held {
    pub parts: Arc<Parts>,
    pub known: Arc<Known>,
    pub chat: ChatId,
    pub names: Names,
    pub id: LeaseId,
    /// The epoch of the scope; `None` when it has no record.
    pub epoch: Option<Epoch>,
    /// The start of the attempt of a stored answer that cannot be read.
    pub unreadable: Option<StoreTime>,
}

impl Lease {
    /// A lease that the store has given, or may have given.
    pub fn new(held: Held) -> Self {
        Self { held: Some(Box::new(held)), is_lost: AtomicBool::new(false) }
    }

    /// Its random name.
    pub fn id(&self) -> Option<LeaseId> {
        self.held.as_ref().map(|held| held.id)
    }

    /// Forgets the lease, because the store has not given it.
    pub fn forget(mut self) {
        self.held = None;
    }

    /// Notes what was read together with the lease.
    pub fn note(&mut self, epoch: Option<Epoch>, unreadable: Option<StoreTime>) {
        if let Some(held) = &mut self.held {
            (held.epoch, held.unreadable) = (epoch, unreadable);
        }
    }

    /// Runs `fetch`, and renews the lease each second meanwhile. The fetch goes on when the lease is lost.
    pub async fn keep<T>(&self, fetch: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            fetched = fetch => fetched,
            never = self.renew() => match never {},
        }
    }

    async fn renew(&self) -> Infallible {
        let Some(Held { parts, names, id, .. }) = self.held.as_deref() else {
            return pending().await;
        };
        let mut ticks = interval_at(Instant::now() + RENEWAL, RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let renewal = parts.backend.renew(&names.lease, *id);
            if parts.guard.run(Operation::Renew, renewal).await.is_ok_and(|done| !done.value) {
                self.is_lost.store(true, Relaxed);
                return pending().await;
            }
        }
    }

    /// Stores an answer in the background for `ttl`, ends the cool-downs, and releases the lease. `asked_at`
    /// is the start of the attempt. With `is_change` the other replicas drop what they have of the contact.
    pub fn store(self, record: Record, asked_at: StoreTime, ttl: Duration, is_change: bool) {
        if let Some(parts) = self.parts() {
            parts.in_background(async move {
                if let Some(held) = &self.held {
                    let is_released = held.store(&record, asked_at, ttl, is_change).await;
                    self.end(is_released).await;
                }
            });
        }
    }

    /// Shares a cool-down in the background, and releases the lease. A failure that does not cool down is not
    /// shared.
    pub fn fail(self, failure: FailureRecord, reach: Reach) {
        if let Some(parts) = self.parts() {
            parts.in_background(async move {
                if let Some(held) = &self.held {
                    let is_released = held.fail(&failure, reach).await;
                    self.end(is_released).await;
                }
            });
        }
    }

    fn parts(&self) -> Option<Arc<Parts>> {
        self.held.as_ref().map(|held| held.parts.clone())
    }

    /// Releases the lease unless that has been done, or another replica may have it.
    async fn end(mut self, is_released: bool) {
        if let Some(held) = self.held.take().filter(|_| !is_released && !self.is_lost.load(Relaxed)) {
            held.release().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.held.take().filter(|_| !self.is_lost.load(Relaxed)) {
            let parts = held.parts.clone();
            parts.release(async move { held.release().await });
        }
    }
}

impl Held {
    /// Returns whether the lease is released.
    async fn store(&self, record: &Record, asked_at: StoreTime, ttl: Duration, is_change: bool) -> bool {
        if self.known.is_rejected(asked_at) {
            return false;
        }
        let message = wire::encode(record);
        let (mut epoch, mut is_new_epoch) =
            self.epoch.map_or_else(|| (rand::random(), true), |epoch| (epoch, false));
        for _ in 0..SEALS {
            let Some(value) = self.seal(&self.names.answer, &epoch, asked_at, message.clone()) else {
                break;
            };
            let write = Write {
                names: &self.names,
                value: &value,
                ttl,
                epoch,
                is_new_epoch,
                unreadable: self.unreadable,
                lease: self.id,
            };
            let Ok(done) = self.parts.guard.run(Operation::Write, self.parts.backend.write(write)).await
            else {
                return false;
            };
            let (now, written) = done.value;
            self.parts.learn(&done, now);
            match written {
                Written::Stored => {
                    self.known.has_record();
                    self.known.answered(asked_at);
                    if is_change {
                        self.announce_change(asked_at);
                    }
                    return true;
                }
                Written::Outdated => return true,
                Written::OtherEpoch(other) => (epoch, is_new_epoch) = (other, false),
                Written::NoScope => (epoch, is_new_epoch) = (rand::random(), true),
            }
        }
        false
    }

    /// Returns whether the lease is released.
    async fn fail(&self, failure: &FailureRecord, reach: Reach) -> bool {
        let name = match reach {
            Reach::Key => &self.names.failure,
            Reach::Scope => &self.names.scope_failure,
        };
        let sealed = self
            .epoch
            .and_then(|epoch| self.seal(name, &epoch, failure.began, wire::encode_failure(failure)?));
        let Some(value) = sealed else {
            return false;
        };
        let ttl = failure.until.since(failure.began) + REMEMBERED;
        let write = self.parts.backend.fail(&self.names, reach, &value, ttl, self.id);
        let Ok(done) = self.parts.guard.run(Operation::Fail, write).await else {
            return false;
        };
        self.parts.learn(&done, done.value);
        true
    }

    /// The release draws no conclusions about the store: it may follow a read that has failed already.
    async fn release(&self) {
        if self.parts.guard.is_attached() {
            let release = self.parts.backend.release(&self.names.lease, self.id);
            let _ = self.parts.guard.attempt(Operation::Release, release).await;
        }
    }

    fn seal(&self, name: &str, epoch: &Epoch, at: StoreTime, message: Vec<u8>) -> Option<Vec<u8>> {
        seal(&self.known.keys.value, name, epoch, at, message)
    }

    fn announce_change(&self, asked_at: StoreTime) {
        let news = ScopeNews::Changed { chat: self.chat.clone(), asked_at };
        self.parts.announce(news.seal(self.parts.process, self.known.tag, &self.known.keys.news));
    }
}
