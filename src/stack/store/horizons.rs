//! [`Horizons`]: the [`Horizon`] of each instance, from the replies of the store and from the news of other
//! replicas.
//!
//! The number of changes orders what was read of one record, so a later reading replaces an earlier one. Turns
//! that no record has only move a horizon away.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::horizon::{Horizon, UNSHARED};

/// The most instances. When there are more, those whose turns are all over are dropped; while there is none,
/// no further one is noted.
const INSTANCES_MAX: usize = 10_000;

/// The horizons by the beginning of the names of the instance.
#[derive(Debug, Default)]
pub struct Horizons(Mutex<HashMap<String, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    horizon: Horizon,
    changed: Instant,
}

impl Horizons {
    pub fn get(&self, instance: &str) -> Option<Horizon> {
        self.0.lock().get(instance).map(|known| known.horizon)
    }

    /// Notes a reply to an operation that began at `began`.
    pub fn reply(&self, instance: String, new: Horizon, began: Instant, now: Instant) {
        self.change(instance, new, now, |known| {
            // The record may have lost its state, or taken in the turns that it did not have.
            if new.changes >= known.horizon.changes || known.changed <= began { new } else { known.horizon }
        });
    }

    /// Notes what another replica read of the record.
    pub fn hear(&self, instance: String, new: Horizon, now: Instant) {
        self.change(instance, new, now, |known| match known.horizon.changes {
            UNSHARED.. => known.horizon.furthest(new),
            changes if new.changes > changes => new,
            _ => known.horizon,
        });
    }

    /// Notes turns that no record has, besides those that are known.
    pub fn raise(&self, instance: String, new: Horizon, now: Instant) {
        self.change(instance, new, now, |known| known.horizon.furthest(new));
    }

    /// Notes the turns of an instance that only this process has.
    pub fn set(&self, instance: String, new: Horizon, now: Instant) {
        self.change(instance, new, now, |_| new);
    }

    fn change(&self, instance: String, new: Horizon, now: Instant, merge: impl FnOnce(&Known) -> Horizon) {
        let mut all = self.0.lock();
        if let Some(known) = all.get_mut(&instance) {
            *known = Known { horizon: merge(known), changed: now };
            return;
        }
        if all.len() >= INSTANCES_MAX {
            all.retain(|_, known| !known.horizon.is_over(now));
        }
        if all.len() < INSTANCES_MAX {
            all.insert(instance, Known { horizon: new, changed: now });
        }
    }
}
