//! [`Own`]: the turns of an instance that this process alone takes, with the file that keeps them if there is
//! one.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{gcra::Gcra, limit::Limit};
use crate::{
    domain::Instance,
    stack::store::{Horizon, Store},
};

/// The turns that no other process takes.
#[derive(Debug)]
pub struct Own {
    gcra: Mutex<Gcra>,
    /// The file, and the instance in it.
    kept: Option<(Store, Instance)>,
}

impl Own {
    /// Turns in memory. None of them is taken.
    pub fn new(limit: Limit, now: Instant) -> Self {
        Self { gcra: Mutex::new(Gcra::new(limit, now)), kept: None }
    }

    /// Turns that `store` keeps, in a process that began at `started`. There is no burst right after the
    /// start, because the last second before it may be missing from the file.
    pub fn kept(limit: Limit, store: Store, instance: Instance, started: Instant, now: Instant) -> Self {
        let mut gcra = Gcra::new(limit, now);
        let burst_at = started + limit.slack;
        gcra.take_over(&Horizon { free_at: burst_at, spare_at: burst_at, paused_until: started, changes: 0 });
        if let Some(known) = store.horizon(&instance) {
            gcra.take_over(&known);
        }
        Self { gcra: Mutex::new(gcra), kept: Some((store, instance)) }
    }

    /// Reads the turns.
    pub fn read<T>(&self, read: impl FnOnce(&Gcra) -> T) -> T {
        read(&self.gcra.lock())
    }

    /// Changes the turns, and keeps the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Gcra) -> T) -> T {
        let mut gcra = self.gcra.lock();
        let before = gcra.horizon();
        let result = change(&mut gcra);
        let after = gcra.horizon();
        if let Some((store, instance)) = &self.kept
            && before != after
        {
            // Still under the lock, so that the last change is kept last.
            store.remember(instance, after);
        }
        result
    }
}
