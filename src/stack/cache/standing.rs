//! [`Standings`]: the scopes whose token Hypersender rejects, so that the answers stored with it are hidden.
//! [`Trust`] is what others ask whether a token was rejected since a moment.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::Scope;

/// Two reports of the same rejection give it times that differ by less than this. Between two rejections
/// there is a cool-down of at least this length (rule 8).
const SAME_REJECTION: Duration = Duration::from_secs(1);

/// The standing of each scope with stored answers, with a fetch in progress, or with a [`Trust`]. Other
/// scopes have no row, so names and tokens that callers invent take no memory.
#[derive(Debug, Default)]
pub struct Standings {
    rows: DashMap<Scope, Row>,
    count: AtomicUsize,
}

/// The standing of one scope. Each of its stored answers holds it.
pub type Row = Arc<Standing>;

#[derive(Debug)]
pub struct Standing {
    /// `None` for the row of answers that are hidden by themselves.
    scope: Option<Scope>,
    revoked: AtomicBool,
    /// When this row was made. Its answers and its trusts are not older.
    since: Instant,
    latest: Mutex<Latest>,
}

/// What Hypersender said last about the token. The news of other replicas may come late, so both are kept.
#[derive(Debug, Default)]
struct Latest {
    /// The start of the latest attempt that was answered.
    answered: Option<Instant>,
    /// The latest rejection.
    rejected: Option<Instant>,
    /// The number of rejections that this process has heard of.
    generation: u64,
}

impl Standing {
    fn new(scope: Option<Scope>, revoked: bool) -> Row {
        let (revoked, latest) = (AtomicBool::new(revoked), Mutex::default());
        Arc::new(Self { scope, revoked, since: Instant::now(), latest })
    }

    /// A row that hides whatever holds it, for ever.
    pub fn hidden() -> Row {
        Self::new(None, true)
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
        if latest.is_news(at, self.since) {
            latest.generation += 1;
        }
        latest.rejected = latest.rejected.max(Some(at));
        self.revoked.store(latest.is_revoked(), Release);
    }

    fn generation(&self) -> u64 {
        self.latest.lock().generation
    }
}

impl Latest {
    fn is_revoked(&self) -> bool {
        self.rejected.is_some() && self.rejected >= self.answered
    }

    /// Whether a rejection at `at` is new to a row that was made at `since`, so that it ends the trust. The
    /// same rejection may be reported again and again, even when the token is good again, and a new row gets
    /// reports of old ones.
    fn is_news(&self, at: Instant, since: Instant) -> bool {
        let hides_answers = !self.is_revoked() && self.answered.is_some_and(|answered| at >= answered);
        let is_another = self.rejected.is_none_or(|rejected| at >= rejected + SAME_REJECTION);
        hides_answers || is_another && at + SAME_REJECTION >= since
    }
}

impl Standings {
    /// An estimate of the memory for a row: its bucket in the map at a load of two thirds, the row itself, a
    /// name of 64 characters, the reference counts, and the overhead of the allocator.
    pub const ROW_BYTES: usize =
        (size_of::<Scope>() + 8 + 1) * 3 / 2 + size_of::<Standing>() + 16 + (16 + 64) + 2 * 16;

    /// The row of a scope, for an answer that is stored or for a [`Trust`]. It is made if there is none.
    pub fn of(&self, scope: &Scope) -> Row {
        if let Some(row) = self.rows.get(scope) {
            return row.clone();
        }
        let row = self.rows.entry(scope.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Relaxed);
            Standing::new(Some(scope.clone()), false)
        });
        row.clone()
    }

    /// Hides the stored answers of the scope, whose token was rejected at `at`.
    pub fn revoke(&self, scope: &Scope, at: Instant) {
        if let Some(row) = self.rows.get(scope) {
            row.revoke(at);
        }
    }

    /// Whether the token of the scope is rejected. Without a row, that is not known.
    pub fn is_revoked(&self, scope: &Scope) -> bool {
        self.rows.get(scope).is_some_and(|row| row.is_revoked())
    }

    /// Drops a row that is not needed by its holder any more.
    pub fn release(&self, row: Row) {
        let Some(scope) = row.scope.clone() else { return };
        drop(row);
        // Rows are cloned under the lock of the map, or from a holder that keeps its row. So a count of one
        // means that only the map holds the row.
        if self.rows.remove_if(&scope, |_, row| Arc::strong_count(row) == 1).is_some() {
            self.count.fetch_sub(1, Relaxed);
        }
    }

    /// All scopes with a row.
    pub fn scopes(&self) -> Vec<Scope> {
        self.rows.iter().map(|row| row.key().clone()).collect()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// An estimate of the memory for all rows.
    pub fn bytes(&self) -> usize {
        self.len() * Self::ROW_BYTES
    }
}

/// The trust in a token from a moment on. It ends with the next rejection of the token that this process
/// learns of, by whatever way, and does not come back when the token is good again.
///
/// While it exists, the process keeps track of the token. Clones are of the same moment.
pub struct Trust {
    standings: Arc<Standings>,
    /// `None` only while this is dropped.
    row: Option<Row>,
    generation: u64,
}

impl Trust {
    /// Trust in the token of `scope` from now on.
    pub fn begin(standings: &Arc<Standings>, scope: &Scope) -> Self {
        let row = standings.of(scope);
        let generation = row.generation();
        Self { standings: standings.clone(), row: Some(row), generation }
    }

    /// Whether what is known since that moment may still be shown. Never while Hypersender rejects the token.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.row.as_ref().is_some_and(|row| !row.is_revoked() && row.generation() == self.generation)
    }
}

impl Clone for Trust {
    fn clone(&self) -> Self {
        let Self { standings, row, generation } = self;
        Self { standings: standings.clone(), row: row.clone(), generation: *generation }
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        if let Some(row) = self.row.take() {
            self.standings.release(row);
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::{hash::RandomState, time::Duration};

    use super::*;
    use crate::domain::{Credential, Instance};

    type Event = fn(&Standing, Instant);

    #[test]
    fn only_an_attempt_that_began_after_the_rejection_ends_it() {
        let credential = Credential::new("token".into(), &RandomState::new()).id();
        let scope = Scope { instance: Instance::parse("shop").unwrap(), credential };
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // The events in the order in which this process hears of them, each with its own time.
        let (answered, rejected): (Event, Event) = (Standing::restore, Standing::revoke);
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
            let row = Standings::default().of(&scope);
            for (event, seconds) in events {
                event(&row, at(*seconds));
            }
            assert_eq!(row.is_revoked(), is_revoked, "{:?}", row.latest);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trust_ends_with_each_rejection_and_not_with_the_news_of_a_known_one() {
        let credential = Credential::new("token".into(), &RandomState::new()).id();
        let scope = Scope { instance: Instance::parse("shop").unwrap(), credential };
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(100)).await;
        let at = |millis: u64| start + Duration::from_millis(millis);
        let (answered, rejected): (Event, Event) = (Standing::restore, Standing::revoke);
        // What came before, and what comes while somebody trusts the token. The row began at 100 s.
        for (before, events, holds) in [
            (&[][..], &[(answered, 101_000)][..], true),
            (&[(answered, 101_000)], &[(rejected, 102_000)], false),
            (&[(answered, 101_000)], &[(rejected, 102_000), (answered, 103_000)], false),
            (&[], &[(rejected, 102_000), (answered, 103_000)], false),
            // The token is rejected all the time, and then another time.
            (&[(rejected, 102_000)], &[], false),
            (&[(rejected, 102_000)], &[(answered, 101_000)], false),
            (&[(rejected, 102_000)], &[(answered, 103_000)], true),
            (&[(rejected, 102_000)], &[(rejected, 103_500), (answered, 104_000)], false),
            // The same rejection is heard of again, with the error of the clocks.
            (&[(rejected, 102_000), (answered, 103_000)], &[(rejected, 102_003)], true),
            (&[(rejected, 102_000)], &[(rejected, 102_003), (answered, 103_000)], true),
            // A rejection is heard of late, when the token is good again.
            (&[(answered, 103_000)], &[(rejected, 102_000)], false),
            // The store knows a rejection from before this process had any answer; or since its answer.
            (&[], &[(rejected, 90_000), (answered, 101_000)], true),
            (&[(answered, 80_000)], &[(rejected, 90_000), (answered, 101_000)], false),
        ] {
            let standings = Arc::new(Standings::default());
            let row = standings.of(&scope);
            for (event, millis) in before {
                event(&row, at(*millis));
            }
            let trust = Trust::begin(&standings, &scope);
            for (event, millis) in events {
                event(&row, at(*millis));
            }
            assert_eq!(trust.holds(), holds, "{:?}", row.latest);
            standings.release(row);
            assert_eq!(standings.len(), 1, "trust keeps track of the token");
            let clone = trust.clone();
            drop(trust);
            assert_eq!((clone.holds(), standings.len()), (holds, 1));
            drop(clone);
            assert_eq!((standings.len(), standings.scopes().len()), (0, 0));
        }
    }
}
