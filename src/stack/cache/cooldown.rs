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
        store::{FailureRecord, StoreClock},
    },
};

/// The first failure is remembered for this long. Each further one is remembered twice as long as the one
/// before ...
const TIME_MIN: Duration = Duration::from_secs(1);
/// ... up to this length.
const TIME_MAX: Duration = Duration::from_secs(30);
/// A cool-down of another replica that claims to last longer ends after this time. Hypersender may ask for a
/// wait of 5 minutes at most, so only a clock that was set could say more.
const SHARED_MAX: Duration = Duration::from_secs(5 * 60);

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
    began: Instant,
    until: Instant,
    time: Duration,
}

impl CoolDowns {
    pub fn new(block: Arc<Block>) -> Self {
        Self { keys: Keyed::default(), scopes: Keyed::default(), block }
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
        let Some(reach) = error.handling().cool_down else {
            return error;
        };
        // When the table of states is full, no cool-down starts and Hypersender is asked sooner. All other
        // limits still hold.
        match self.state(key, reach) {
            Some(state) => state.begin(error, now),
            None => error,
        }
    }

    /// Takes over a cool-down that another replica began, if it ends later than the one that is known.
    pub fn adopt(&self, key: &Key, reach: Reach, record: FailureRecord, clock: &StoreClock, now: Instant) {
        let (Some(began), Some(until)) = (clock.instant(record.began), clock.instant(record.until)) else {
            return;
        };
        let (until, time) = (until.min(now + SHARED_MAX), record.time.min(TIME_MAX));
        let failure = Failure { error: record.error, began, until, time };
        if let Some(state) = self.state(key, reach).filter(|_| failure.is_remembered(now)) {
            let mut last = state.0.lock();
            if last.as_ref().is_none_or(|last| last.until < failure.until) {
                *last = Some(failure);
            }
        }
    }

    /// The present cool-down in the form for the store. `None` when there is none, and before the clock of
    /// the store is known.
    pub fn record(&self, key: &Key, reach: Reach, clock: &StoreClock) -> Option<FailureRecord> {
        let failure = match reach {
            Reach::Key => self.keys.get(key)?.0.lock().clone(),
            Reach::Scope => self.scopes.get(&key.scope)?.0.lock().clone(),
        };
        let Failure { error, began, until, time } = failure?;
        Some(FailureRecord { error, began: clock.at(began)?, until: clock.at(until)?, time })
    }

    /// The state of a contact or of its scope. `None` when the table of states is full.
    fn state(&self, key: &Key, reach: Reach) -> Option<Arc<CoolDown>> {
        match reach {
            Reach::Key => self.keys.of(key, CoolDown::default).ok(),
            Reach::Scope => self.scopes.of(&key.scope, CoolDown::default).ok(),
        }
    }

    /// Forgets the failures of a contact, because Hypersender has answered.
    pub fn end(&self, key: &Key) {
        if let Some(state) = self.keys.get(key) {
            *state.0.lock() = None;
        }
    }

    /// Forgets the failures that concern all contacts of `scope`, because Hypersender has answered.
    pub fn end_of_scope(&self, scope: &Scope) {
        if let Some(state) = self.scopes.get(scope) {
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
        *last = Some(Failure { error: error.clone(), began: now, until, time });
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

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;
    use crate::{
        domain::{Again, ChatId, Credential, Instance, Rejected},
        stack::store::StoreTime,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn key(chat: &str) -> Key {
        let credential = Credential::new("token".into(), &RandomState::new()).id();
        let scope = Scope { instance: Instance::parse("shop").unwrap(), credential };
        Key { scope, chat: ChatId::parse(chat).unwrap() }
    }

    fn cooling() -> CoolDowns {
        CoolDowns::new(Arc::new(Block::new()))
    }

    fn clock() -> StoreClock {
        let clock = StoreClock::default();
        clock.learn(Instant::now(), StoreTime::from_millis(1_900_000_000_000));
        clock
    }

    #[tokio::test(start_paused = true)]
    async fn a_cool_down_holds_on_another_replica_and_doubles_there() {
        let unavailable = |wait| LookupError::Unavailable { retry_after: wait, again: Again::Yes };
        let (one, two, clock, key) = (cooling(), cooling(), clock(), key("15551230001"));
        one.begin(&key, unavailable(None), Instant::now());
        let record = one.record(&key, Reach::Key, &clock).unwrap();
        tokio::time::advance(SECOND / 4).await;
        two.adopt(&key, Reach::Key, record.clone(), &clock, Instant::now());
        assert_eq!(two.failure(&key, Instant::now()), Some(unavailable(Some(SECOND * 3 / 4))));
        tokio::time::advance(SECOND).await;
        assert_eq!(two.failure(&key, Instant::now()), None);
        assert_eq!(two.begin(&key, unavailable(None), Instant::now()), unavailable(Some(2 * SECOND)));
        // The earlier one, read late, shortens nothing.
        two.adopt(&key, Reach::Key, record, &clock, Instant::now());
        assert_eq!(two.failure(&key, Instant::now()), Some(unavailable(Some(2 * SECOND))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cool_down_of_a_scope_holds_for_its_other_contacts_and_never_for_hours() {
        let rejected = LookupError::CredentialsRejected(Rejected::Own);
        let (one, two, clock) = (cooling(), cooling(), clock());
        let first = key("15551230001");
        let other = Key { chat: ChatId::parse("15551230002").unwrap(), ..first.clone() };
        one.begin(&first, rejected.clone(), Instant::now());
        assert_eq!(one.record(&first, Reach::Key, &clock), None);
        let mut record = one.record(&first, Reach::Scope, &clock).unwrap();
        record.until = StoreTime::from_micros(record.until.micros() + 3_600_000_000);
        two.adopt(&first, Reach::Scope, record, &clock, Instant::now());
        assert_eq!(two.failure(&other, Instant::now()), Some(rejected));
        tokio::time::advance(SHARED_MAX).await;
        assert_eq!(two.failure(&other, Instant::now()), None);
    }
}
