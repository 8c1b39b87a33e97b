//! [`Patience`]: bounds how long the requests for one instance wait together (rule 60), so that a page with
//! very many new contacts ends soon also over the few connections of HTTP/1.1.
//!
//! Not here: the time that one request waits at most.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::backlog::Backlog;
use crate::{
    domain::Instance,
    stack::{Idle, Keyed},
};

/// The waiting time that all requests for an instance share. When it is used up, no request waits.
const TIME: Duration = Duration::from_secs(36);
/// The part of each second by which the waiting time grows again.
const REFILL: f64 = 1.0;
/// Maximum number of look-ups of an instance in progress for images.
const LOOK_UPS_MAX: usize = 32;

/// The waiting time of each instance.
#[derive(Debug)]
pub struct Patience(Keyed<Instance, Share>);

/// The state of one instance.
#[derive(Debug)]
pub struct Share {
    budget: Mutex<Budget>,
    look_ups: Arc<Semaphore>,
    backlog: Backlog,
}

#[derive(Debug)]
struct Budget {
    /// In seconds. Waits are charged when they end, so it may fall below zero, to `-TIME` at the lowest.
    left: f64,
    as_of: Instant,
}

/// A request that waits. Its time is charged when this is dropped.
#[derive(Debug)]
pub struct Wait<'a> {
    share: &'a Share,
    /// The beginning of the time that is not charged yet.
    since: Instant,
}

impl Patience {
    /// Every instance has all of its time.
    pub fn new() -> Self {
        Self(Keyed::default())
    }

    /// The state of `instance`; `None` when there are too many. Requests then do not wait and start nothing.
    pub fn share(&self, instance: &Instance) -> Option<Arc<Share>> {
        self.0.of(instance, Share::new).ok()
    }
}

impl Share {
    fn new() -> Self {
        let budget = Budget { left: TIME.as_secs_f64(), as_of: Instant::now() };
        let look_ups = Arc::new(Semaphore::new(LOOK_UPS_MAX));
        Self { budget: Mutex::new(budget), look_ups, backlog: Backlog::default() }
    }

    /// Begins a wait; `None` when the request must not wait.
    pub fn wait(&self) -> Option<Wait<'_>> {
        let now = Instant::now();
        let mut budget = self.budget.lock();
        budget.refill(now);
        (budget.left > 0.0).then(|| Wait { share: self, since: now })
    }

    /// The permit of a look-up; `None` when as many are in progress as there may be.
    pub fn look_up(&self) -> Option<OwnedSemaphorePermit> {
        self.look_ups.clone().try_acquire_owned().ok()
    }

    /// The permit of a look-up of the backlog, as soon as there is one.
    pub async fn look_up_later(&self) -> OwnedSemaphorePermit {
        self.look_ups.clone().acquire_owned().await.expect("this semaphore is never closed")
    }

    /// The contacts that wait for their look-up. Its worker holds the share.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }
}

impl Idle for Share {
    fn is_idle(&self, now: Instant) -> bool {
        let mut budget = self.budget.lock();
        budget.refill(now);
        budget.left >= TIME.as_secs_f64() && self.look_ups.available_permits() == LOOK_UPS_MAX
    }
}

impl Budget {
    fn refill(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.as_of);
        self.left = (self.left + time.as_secs_f64() * REFILL).min(TIME.as_secs_f64());
        self.as_of = self.as_of.max(now);
    }
}

impl Wait<'_> {
    /// Charges the time until now. The wait goes on.
    pub fn charge(&mut self) {
        let now = Instant::now();
        let time = now.saturating_duration_since(self.since);
        let mut budget = self.share.budget.lock();
        budget.refill(now);
        budget.left = (budget.left - time.as_secs_f64()).max(-TIME.as_secs_f64());
        self.since = now;
    }

    /// Ends the wait, and charges nothing more.
    pub fn end_free(mut self) {
        self.since = Instant::now();
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.charge();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn instance(name: &str) -> Instance {
        Instance::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn waits_use_up_the_time_of_their_instance_alone() {
        let patience = Patience::new();
        let share = patience.share(&instance("shop")).unwrap();
        let waits: Vec<_> = (0..6).map(|_| share.wait().unwrap()).collect();
        advance(7 * SECOND).await;
        drop(waits);
        // 36 s are left before the waits, which take 42 s. The time does not grow above 36 s.
        assert!(share.wait().is_none());
        assert!(patience.share(&instance("shop")).unwrap().wait().is_none());
        assert!(patience.share(&instance("other")).unwrap().wait().is_some());
        advance(6 * SECOND).await;
        assert!(share.wait().is_none(), "-6 s and 6 s are nothing");
        advance(SECOND).await;
        assert!(share.wait().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_ends_well_is_free_from_its_last_charge_on() {
        let patience = Patience::new();
        let share = patience.share(&instance("shop")).unwrap();
        for _ in 0..100 {
            let wait = share.wait().unwrap();
            advance(SECOND).await;
            wait.end_free();
        }
        let mut waits: Vec<_> = (0..37).map(|_| share.wait().unwrap()).collect();
        advance(SECOND).await;
        waits.iter_mut().for_each(Wait::charge);
        waits.into_iter().for_each(Wait::end_free);
        assert!(share.wait().is_none());
        advance(SECOND + SECOND / 2).await;
        assert!(share.wait().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_debt_is_bounded() {
        let patience = Patience::new();
        let share = patience.share(&instance("shop")).unwrap();
        let waits: Vec<_> = (0..500).map(|_| share.wait().unwrap()).collect();
        advance(2 * SECOND).await;
        drop(waits);
        advance(TIME).await;
        assert!(share.wait().is_none());
        advance(SECOND).await;
        assert!(share.wait().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_of_an_instance_are_bounded() {
        let patience = Patience::new();
        let share = patience.share(&instance("shop")).unwrap();
        let permits: Vec<_> = (0..32).map(|_| share.look_up().unwrap()).collect();
        assert!(share.look_up().is_none());
        drop(permits);
        assert!(share.look_up().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_idle_when_nothing_is_used_up() {
        let share = Share::new();
        let is_idle = |share: &Share| share.is_idle(Instant::now());
        assert!(is_idle(&share));
        let permit = share.look_up();
        assert!(!is_idle(&share));
        drop(permit);
        let wait = share.wait().unwrap();
        advance(20 * SECOND).await;
        drop(wait);
        assert!(!is_idle(&share));
        advance(20 * SECOND).await;
        assert!(is_idle(&share));
    }
}
