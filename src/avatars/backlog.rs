//! [`Backlog`]: the contacts of one instance that were asked for and could not be looked up at once, oldest
//! first (rule 60). They are looked up when there is room, so that the next view of a page has their images.
//!
//! Not here: the look-ups.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::{Credential, Key};

/// Maximum number of contacts that wait, less than 512 KiB. Further ones are dropped, and a later request
/// asks for them again.
const CONTACTS_MAX: usize = 1000;
/// A contact that could not be looked up after this time is dropped: its page has been left by now.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// The contacts of one instance that wait for their look-up.
#[derive(Debug, Default)]
pub struct Backlog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Pending>,
    /// The keys of `queue`.
    keys: HashSet<Key>,
    /// Nothing is taken out before this instant.
    paused_until: Option<Instant>,
    /// Whether there is a [`Worker`].
    is_worked_off: bool,
}

/// A contact to look up.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The contact.
    pub key: Key,
    /// The token for it.
    pub credential: Credential,
    /// When it was asked for.
    pub since: Instant,
}

/// The next step of a worker.
#[derive(Debug)]
pub enum Step {
    /// To look up this contact.
    LookUp(Pending),
    /// To do nothing until this instant.
    PauseUntil(Instant),
    /// To end, because no contact waits.
    End,
}

/// The right to take contacts out of a backlog. There is one at a time.
#[derive(Debug)]
pub struct Worker<'a> {
    backlog: &'a Backlog,
    is_over: bool,
}

impl Backlog {
    /// Adds a contact, once, if there is room. Returns whether contacts wait and there is no [`Worker`],
    /// so that one is needed.
    pub fn add(&self, pending: Pending) -> bool {
        let now = Instant::now();
        let mut state = self.0.lock();
        if state.queue.len() >= CONTACTS_MAX {
            state.drop_old(now);
        }
        if state.queue.len() < CONTACTS_MAX && !pending.is_old(now) && state.keys.insert(pending.key.clone())
        {
            state.queue.push_back(pending);
        }
        !state.is_worked_off && !state.queue.is_empty()
    }

    /// Whether a contact waits.
    pub fn has(&self, key: &Key) -> bool {
        self.0.lock().keys.contains(key)
    }

    /// Drops all contacts.
    pub fn clear(&self) {
        let mut state = self.0.lock();
        state.queue.clear();
        state.keys.clear();
    }

    /// Lets all contacts wait for this time at least.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.0.lock();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// The worker; `None` when there is one already.
    pub fn worker(&self) -> Option<Worker<'_>> {
        let mut state = self.0.lock();
        let is_free = !std::mem::replace(&mut state.is_worked_off, true);
        is_free.then(|| Worker { backlog: self, is_over: false })
    }
}

impl State {
    fn take(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front()?;
        self.keys.remove(&pending.key);
        Some(pending)
    }

    /// Contacts that were put back are behind younger ones, and are dropped when their turn comes.
    fn drop_old(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|pending| pending.is_old(now)) {
            self.take();
        }
    }
}

impl Pending {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= LIFE
    }
}

impl Worker<'_> {
    /// The next step. After [`Step::End`], the worker is gone, and [`Backlog::add`] asks for a new one.
    pub fn step(&mut self) -> Step {
        let now = Instant::now();
        let mut state = self.backlog.0.lock();
        state.drop_old(now);
        if let Some(until) = state.paused_until.filter(|until| *until > now && !state.queue.is_empty()) {
            return Step::PauseUntil(until);
        }
        if let Some(pending) = state.take() {
            return Step::LookUp(pending);
        }
        *state = State { paused_until: state.paused_until, ..State::default() };
        self.is_over = true;
        Step::End
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.backlog.0.lock().is_worked_off = false;
        }
    }
}

#[cfg(test)]
mod tests;
