//! [`Standing`]: the scopes whose token Hypersender rejects, so that the answers stored with it are hidden.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::Scope;

/// The standing of each scope with stored answers. Other scopes need none, so names and tokens that callers
/// invent take no memory: there are never more rows than stored answers.
#[derive(Debug, Default)]
pub struct Standing(DashMap<Scope, Row>);

/// The standing of one scope. Each of its stored answers holds it.
pub type Row = Arc<State>;

#[derive(Debug)]
pub struct State {
    /// `None` for the row of answers that are hidden by themselves.
    scope: Option<Scope>,
    revoked: AtomicBool,
    latest: Mutex<Latest>,
}

/// What Hypersender said last about the token. The news of other replicas may come late, so both are kept.
#[derive(Debug, Default)]
struct Latest {
    /// The start of the latest attempt that was answered.
    answered: Option<Instant>,
    /// The latest rejection.
    rejected: Option<Instant>,
}

impl State {
    /// A row that hides whatever holds it, for ever.
    pub fn hidden() -> Row {
        Arc::new(Self { scope: None, revoked: AtomicBool::new(true), latest: Mutex::default() })
    }

    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Acquire)
    }

    /// Notes that Hypersender answered an attempt that began at `began`. It ends a revocation only if the
    /// attempt began later: an earlier one was answered before the token was rejected, or together with it.
    pub fn restore(&self, began: Instant) {
        let mut latest = self.latest.lock();
        latest.answered = latest.answered.max(Some(began));
        self.revoked.store(latest.is_revoked(), Release);
    }

    fn revoke(&self, at: Instant) {
        let mut latest = self.latest.lock();
        latest.rejected = latest.rejected.max(Some(at));
        self.revoked.store(latest.is_revoked(), Release);
    }
}

impl Latest {
    fn is_revoked(&self) -> bool {
        self.rejected.is_some() && self.rejected >= self.answered
    }
}

impl Standing {
    /// An estimate of the memory for a row: its bucket in the map at a load of two thirds, the row itself, a
    /// name of 64 characters, the reference counts, and the overhead of the allocator.
    pub const ROW_BYTES: usize =
        (size_of::<Scope>() + 8 + 1) * 3 / 2 + size_of::<State>() + 16 + (16 + 64) + 2 * 16;

    /// The row of a scope that gets an answer stored, and whether the row is new.
    pub fn of(&self, scope: &Scope) -> (Row, bool) {
        let mut is_new = false;
        let row = self.0.entry(scope.clone()).or_insert_with(|| {
            is_new = true;
            let (scope, revoked, latest) = (Some(scope.clone()), AtomicBool::new(false), Mutex::default());
            Arc::new(State { scope, revoked, latest })
        });
        (row.clone(), is_new)
    }

    /// Hides the stored answers of the scope, whose token was rejected at `at`.
    pub fn revoke(&self, scope: &Scope, at: Instant) {
        if let Some(row) = self.0.get(scope) {
            row.revoke(at);
        }
    }

    /// Drops the row of an answer that is not stored any more. Returns whether it was the last and the row is
    /// removed.
    pub fn release(&self, row: Row) -> bool {
        let Some(scope) = row.scope.clone() else { return false };
        drop(row);
        // Rows are cloned under the lock of the map, or from an answer that keeps its row. So a count of one
        // means that only the map holds the row.
        self.0.remove_if(&scope, |_, row| Arc::strong_count(row) == 1).is_some()
    }

    /// The scopes with stored answers.
    pub fn scopes(&self) -> Vec<Scope> {
        self.0.iter().map(|row| row.key().clone()).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{hash::RandomState, time::Duration};

    use super::*;
    use crate::domain::{Credential, Instance};

    type Event = fn(&State, Instant);

    #[test]
    fn only_an_attempt_that_began_after_the_rejection_ends_it() {
        let credential = Credential::new("token".into(), &RandomState::new()).id();
        let scope = Scope { instance: Instance::parse("shop").unwrap(), credential };
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // The events in the order in which this process hears of them, each with its own time.
        let (answered, rejected): (Event, Event) = (State::restore, State::revoke);
        for (events, is_revoked) in [
            (&[(answered, 1)][..], false),
            (&[(rejected, 2)], true),
            (&[(rejected, 2), (answered, 1)], true),
            (&[(rejected, 2), (answered, 2)], true),
            (&[(rejected, 2), (answered, 3)], false),
            (&[(answered, 3), (rejected, 2)], false),
            (&[(answered, 3), (rejected, 4)], true),
            (&[(rejected, 4), (rejected, 2), (answered, 3)], true),
        ] {
            let (row, _) = Standing::default().of(&scope);
            for (event, seconds) in events {
                event(&row, at(*seconds));
            }
            assert_eq!(row.is_revoked(), is_revoked, "{:?}", row.latest);
        }
    }
}
