//! [`Keyed`]: the state that a layer keeps for each instance or key. It is bounded, because callers choose
//! the names.

use std::{hash::Hash, sync::Arc};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::domain::LookupError;

/// States by name. An idle state is no different from a new one, so it may be dropped.
#[derive(Debug)]
pub struct Keyed<K: Eq + Hash, T> {
    states: DashMap<K, Arc<T>>,
    swept: Mutex<Instant>,
}

/// A state that knows whether it can be dropped.
pub trait Idle {
    /// Whether a new state would behave the same from `now` on.
    fn is_idle(&self, now: Instant) -> bool;
}

/// The most states. It is far above the number of instances of one service; 10,000 states take a few
/// megabytes.
const STATES_MAX: usize = 10_000;
/// The least time between two sweeps. A sweep visits every state, and a flood of new names must not cause one
/// for each call.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

impl<K: Clone + Eq + Hash, T: Idle> Default for Keyed<K, T> {
    /// Holds no state yet.
    fn default() -> Self {
        Self { states: DashMap::new(), swept: Mutex::new(Instant::now()) }
    }
}

impl<K: Clone + Eq + Hash, T: Idle> Keyed<K, T> {
    /// The state of `key`, if there is one.
    pub fn get(&self, key: &K) -> Option<Arc<T>> {
        self.states.get(key).map(|state| state.clone())
    }

    /// The state of `key`, made by `new` when there is none.
    ///
    /// # Errors
    ///
    /// [`LookupError::Overloaded`] when there are too many states and none of them is idle.
    pub fn of(&self, key: &K, new: impl FnOnce() -> T) -> Result<Arc<T>, LookupError> {
        if let Some(state) = self.get(key) {
            return Ok(state);
        }
        if self.states.len() >= STATES_MAX {
            self.sweep();
            if self.states.len() >= STATES_MAX {
                return Err(LookupError::Overloaded);
            }
        }
        Ok(self.states.entry(key.clone()).or_insert_with(|| Arc::new(new())).clone())
    }

    fn sweep(&self) {
        let now = Instant::now();
        let mut swept = self.swept.lock();
        if now.duration_since(*swept) < SWEEP_PAUSE {
            return;
        }
        *swept = now;
        // A state that a call holds is in use, even if it looks idle.
        self.states.retain(|_, state| Arc::strong_count(state) > 1 || !state.is_idle(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(bool);

    impl Idle for Always {
        fn is_idle(&self, _: Instant) -> bool {
            self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_states_make_room_and_busy_ones_stay() {
        let states = Keyed::default();
        for key in 0..STATES_MAX {
            states.of(&key, || Always(key > 0)).unwrap();
        }
        let one_more = || states.of(&STATES_MAX, || Always(true));
        assert_eq!(one_more().map(|_| ()), Err(LookupError::Overloaded), "swept just now");
        tokio::time::advance(SWEEP_PAUSE).await;
        assert!(one_more().is_ok());
        assert_eq!(states.states.len(), 2);
        assert!(states.get(&0).is_some_and(|busy| !busy.0));
    }
}
