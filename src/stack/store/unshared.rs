//! [`Unshared`]: the pauses of instances that the other replicas may not know of yet.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{TurnRequest, engine::INSTANCES_MAX};
use crate::domain::Instance;

/// The latest pause of each instance that is still to be shared. When there are [`INSTANCES_MAX`], those that
/// are over are dropped; while there is none, no further one is noted.
#[derive(Debug, Default)]
pub struct Unshared(Mutex<HashMap<Instance, Pause>>);

/// A pause that this process began by itself.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    pub until: Instant,
    /// The limit of the instance.
    pub request: TurnRequest,
}

impl Unshared {
    /// Notes a pause, unless one that ends later is known.
    pub fn add(&self, instance: &Instance, new: Pause, now: Instant) {
        let mut all = self.0.lock();
        if let Some(known) = all.get_mut(instance) {
            if known.until < new.until {
                *known = new;
            }
            return;
        }
        if all.len() >= INSTANCES_MAX {
            all.retain(|_, pause| pause.until > now);
        }
        if all.len() < INSTANCES_MAX {
            all.insert(instance.clone(), new);
        }
    }

    /// Forgets the pause of `instance` unless it ends after `until`, up to which it is shared.
    pub fn shared(&self, instance: &Instance, until: Instant) {
        let mut all = self.0.lock();
        if all.get(instance).is_some_and(|pause| pause.until <= until) {
            all.remove(instance);
        }
    }

    /// The pauses that are not over. The others are forgotten.
    pub fn all(&self, now: Instant) -> Vec<(Instance, Pause)> {
        let mut all = self.0.lock();
        all.retain(|_, pause| pause.until > now);
        all.iter().map(|(instance, pause)| (instance.clone(), *pause)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::TurnMode, *};

    #[test]
    fn the_latest_pause_stays_until_it_is_shared_or_over() {
        let (unshared, start) = (Unshared::default(), Instant::now());
        let shop = Instance::parse("shop").unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        let add = |seconds| {
            let (interval, slack) = (Duration::ZERO, Duration::ZERO);
            let request = TurnRequest { mode: TurnMode::Look, interval, slack, latest: start };
            unshared.add(&shop, Pause { until: at(seconds), request }, start);
        };
        let all = |now| unshared.all(at(now)).into_iter().map(|(_, pause)| pause.until).collect::<Vec<_>>();
        add(5);
        add(9);
        add(7);
        assert_eq!(all(0), [at(9)]);
        unshared.shared(&shop, at(5));
        assert_eq!(all(8), [at(9)]);
        unshared.shared(&shop, at(9));
        assert_eq!(all(8), []);
        add(9);
        assert_eq!(all(9), []);
    }
}
