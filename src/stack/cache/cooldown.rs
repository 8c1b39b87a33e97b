//! [`CoolDowns`]: a failure is kept for a short time, and callers get it without another request.
//!
//! The reach of a cool-down, one key or a whole scope, is decided with the errors in `domain`. A block of
//! this machine pauses everything and has rules of its own in [`Block`].

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    domain::{Key, LookupError, Reach, Scope},
    stack::{
        block::Block,
        keyed::{Idle, Keyed},
    },
};

/// The first failure is remembered for this long. Each further one is remembered twice as long as the one
/// before ...
const TIME_MIN: Duration = Duration::from_secs(1);
/// ... up to this length.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Recent failures by key and by scope.
#[derive(Debug)]
pub struct CoolDowns {
    keys: Keyed<Key, CoolDown>,
    scopes: Keyed<Scope, CoolDown>,
    block: Arc<Block>,
}

#[derive(Debug, Default)]
struct CoolDown(Mutex<Option<Failure>>);

#[derive(Clone, Debug)]
struct Failure {
    error: LookupError,
    until: Instant,
    time: Duration,
}

impl CoolDowns {
    pub fn new(block: Arc<Block>) -> Self {
        Self { keys: Keyed::new(), scopes: Keyed::new(), block }
    }

    /// The failure that takes the place of an answer at `now`, with the remaining wait; `None` when
    /// Hypersender may be asked.
    pub fn failure(&self, key: &Key, now: Instant) -> Option<LookupError> {
        let scope = || self.of_scope(&key.scope, now).map(|(error, _)| error);
        self.block.failure(now).or_else(scope).or_else(|| self.of_key(key, now).map(|(error, _)| error))
    }

    /// The failure for which all contacts of `scope` cool down at `now`, and the end of the cool-down.
    pub fn of_scope(&self, scope: &Scope, now: Instant) -> Option<(LookupError, Instant)> {
        self.scopes.get(scope)?.failure(now)
    }

    /// The failure for which this one contact cools down at `now`, and the end of the cool-down.
    pub fn of_key(&self, key: &Key, now: Instant) -> Option<(LookupError, Instant)> {
        self.keys.get(key)?.failure(now)
    }

    /// Begins a cool-down if `error` calls for one. Returns the error with the time to wait.
    pub fn begin(&self, key: &Key, error: LookupError, now: Instant) -> LookupError {
        let state = match error.handling().cool_down {
            Some(Reach::Key) => self.keys.of(key, CoolDown::default),
            Some(Reach::Scope) => self.scopes.of(&key.scope, CoolDown::default),
            None => return error,
        };
        // When the table of states is full, no cool-down starts and Hypersender is asked sooner. All other
        // limits still hold.
        state.map_or(error.clone(), |state| state.begin(error, now))
    }

    /// Forgets all earlier failures, because Hypersender has answered.
    pub fn end(&self, key: &Key) {
        for state in [self.keys.get(key), self.scopes.get(&key.scope)].into_iter().flatten() {
            *state.0.lock() = None;
        }
    }
}

impl CoolDown {
    fn failure(&self, now: Instant) -> Option<(LookupError, Instant)> {
        let failure = self.0.lock().clone().filter(|failure| now < failure.until)?;
        Some((failure.error.with_retry_after(failure.until - now), failure.until))
    }

    fn begin(&self, error: LookupError, now: Instant) -> LookupError {
        let mut last = self.0.lock();
        let (time, since) = match last.as_ref().filter(|failure| failure.is_remembered(now)) {
            // The request was sent before that failure was known, so it counts as the same failure.
            Some(failure) if now < failure.until => (failure.time, failure.until),
            Some(failure) => ((failure.time * 2).min(TIME_MAX), now),
            None => (TIME_MIN, now),
        };
        let until = since.max(now + time.max(error.retry_after().unwrap_or_default()));
        *last = Some(Failure { error: error.clone(), until, time });
        error.with_retry_after(until - now)
    }
}

impl Failure {
    /// Whether a failure at `now` continues this one. It does so for a while after the cool-down.
    fn is_remembered(&self, now: Instant) -> bool {
        now < self.until + TIME_MAX
    }
}

impl Idle for CoolDown {
    fn is_idle(&self, now: Instant) -> bool {
        self.0.lock().as_ref().is_none_or(|failure| !failure.is_remembered(now))
    }
}
