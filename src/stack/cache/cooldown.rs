//! [`CoolDowns`]: what failed just now is not asked again at once, by whomever.
//!
//! A failure that concerns one contact cools down its key; one that concerns the credential or the WhatsApp connection
//! cools down the whole scope. A block of this machine cools down everything; it has rules of its own in [`Block`]. Our own
//! refusals cool down nothing.

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

/// The first failure is answered from here this long; each further one twice as long as the one before ...
const TIME_MIN: Duration = Duration::from_secs(1);
/// ... up to this.
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

    /// The failure that answers for upstream at `now`, with what is left to wait; none when upstream may be asked.
    pub fn failure(&self, key: &Key, now: Instant) -> Option<LookupError> {
        let scope = || self.scopes.get(&key.scope).and_then(|state| state.failure(now));
        self.block
            .failure(now)
            .or_else(scope)
            .or_else(|| self.keys.get(key).and_then(|state| state.failure(now)))
    }

    /// Begins a cool-down, if `error` is one to begin one, and returns the error with the time to wait.
    pub fn begin(&self, key: &Key, error: LookupError, now: Instant) -> LookupError {
        let state = match error.handling().cool_down {
            Some(Reach::Key) => self.keys.of(key, CoolDown::default),
            Some(Reach::Scope) => self.scopes.of(&key.scope, CoolDown::default),
            None => return error,
        };
        // When there is no room left, upstream is asked sooner; the other limits hold all the same.
        state.map_or(error.clone(), |state| state.begin(error, now))
    }

    /// Forgets what failed before an answer.
    pub fn end(&self, key: &Key) {
        for state in [self.keys.get(key), self.scopes.get(&key.scope)].into_iter().flatten() {
            *state.0.lock() = None;
        }
    }
}

impl CoolDown {
    fn failure(&self, now: Instant) -> Option<LookupError> {
        let failure = self.0.lock().clone().filter(|failure| now < failure.until)?;
        Some(failure.error.with_retry_after(failure.until - now))
    }

    fn begin(&self, error: LookupError, now: Instant) -> LookupError {
        let mut last = self.0.lock();
        let (time, since) = match last.as_ref().filter(|failure| failure.is_remembered(now)) {
            // Asked before that failure was known: the same trouble, and not a further one.
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
    /// A failure soon after a cool-down is the same trouble still.
    fn is_remembered(&self, now: Instant) -> bool {
        now < self.until + TIME_MAX
    }
}

impl Idle for CoolDown {
    fn is_idle(&self, now: Instant) -> bool {
        self.0.lock().as_ref().is_none_or(|failure| !failure.is_remembered(now))
    }
}
