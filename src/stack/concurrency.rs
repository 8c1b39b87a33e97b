//! [`ConcurrencyLimit`]: how many attempts may be on the wire, in all and for one instance. An attempt that
//! no caller waits for any more is not made, and none begins in a pause after a 429.
//!
//! One instance gets at most half of the permits, so that an instance that hangs leaves the other half to its
//! neighbours.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tower::ServiceExt;

use super::{
    ask::{Ask, LookupService},
    keyed::{Idle, Keyed},
    rate::Rates,
};
use crate::domain::{Answer, Instance, Lookup, LookupError};

/// How many attempts may be on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The number in all, at least 1. One instance gets half of it, and never less than 1.
    pub attempts: usize,
}

impl Settings {
    /// The number for one instance.
    pub(super) fn attempts_of_instance(self) -> usize {
        (self.attempts / 2).max(1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { attempts: 64 }
    }
}

/// The layer that gives a permit to each attempt.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit<S> {
    instances: Arc<Keyed<Instance, Permits>>,
    all: Arc<Semaphore>,
    settings: Settings,
    rates: Rates,
    inner: S,
}

#[derive(Debug)]
struct Permits {
    free: Arc<Semaphore>,
    all: usize,
}

impl Idle for Permits {
    fn is_idle(&self, _: Instant) -> bool {
        self.free.available_permits() == self.all
    }
}

impl<S> ConcurrencyLimit<S> {
    /// Asks through `inner`, with at most as many attempts at a time as `settings` allow, and not while
    /// `rates` know of a pause.
    pub fn new(settings: Settings, rates: Rates, inner: S) -> Self {
        let all = Arc::new(Semaphore::new(settings.attempts));
        Self { instances: Arc::new(Keyed::default()), all, settings, rates, inner }
    }

    /// Takes a permit of the instance first, so that a call which waits for it does not hold one of the
    /// shared permits.
    async fn permits(&self, lookup: &Lookup) -> Result<[OwnedSemaphorePermit; 2], LookupError> {
        let half = self.settings.attempts_of_instance();
        let new = || Permits { free: Arc::new(Semaphore::new(half)), all: half };
        let own = self.instances.of(&lookup.key.scope.instance, new)?;
        if lookup.purpose().is_refresh() {
            let permit = |permits: &Arc<Semaphore>| permits.clone().try_acquire_owned();
            return match (permit(&own.free), permit(&self.all)) {
                (Ok(own), Ok(one)) => Ok([own, one]),
                _ => Err(LookupError::Overloaded),
            };
        }
        let both = async {
            let own = own.free.clone().acquire_owned().await;
            let one = self.all.clone().acquire_owned().await;
            [own, one].map(|permit| permit.expect("these semaphores are never closed"))
        };
        tokio::pin!(both);
        // The deadline moves as callers join and leave, so it is read again after each wait.
        while let Some(latest) = lookup.deadline.latest().filter(|latest| *latest > Instant::now()) {
            if let Ok(permits) = timeout_at(latest, &mut both).await {
                return Ok(permits);
            }
        }
        Err(LookupError::DeadlineExceeded)
    }
}

impl<S: LookupService> Ask for ConcurrencyLimit<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let _permits = self.permits(&lookup).await?;
        // Checked at the last moment: the time may have run out, all callers may have left, or a pause may
        // have begun, while the attempt waited.
        let now = Instant::now();
        if !lookup.deadline.leaves_time_at(now) {
            return Err(LookupError::DeadlineExceeded);
        }
        let paused_until = self.rates.spare(&lookup.key.scope.instance, now).paused_until;
        if paused_until > now {
            return Err(LookupError::NoTurnYet { wait: paused_until - now });
        }
        self.inner.oneshot(lookup).await
    }
}
