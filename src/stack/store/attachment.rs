//! [`Guard`]: the bound of every operation in time, and whether the store answers at all.
//!
//! After some failures in a row, of all operations or of one kind, the process is detached: operations are
//! refused at once, until a probe in the background finds that the store answers again (rule 53).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{Attachment, Unavailable, engine::Failed};
use crate::telemetry::{StoreMetrics as Metrics, StoreOperation as Operation, StoreOutcome as Outcome};

/// The failures in a row that detach: of all operations, or of those of one kind. With a right missing, for
/// instance, one kind always fails while others succeed.
const FAILURES: u32 = 3;
/// The first pause before a probe. Each further one is twice as long as the one before ...
const PROBE_MIN: Duration = Duration::from_secs(1);
/// ... up to this length.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// A store that stays attached for this long is looked for soon when it is away again.
const STEADY: Duration = Duration::from_secs(30);
/// The pauses vary by this part of their length, so that the probes of many replicas do not come together.
const JITTER: f64 = 0.1;

/// Runs operations, each within the time-out, and none while the store is away.
#[derive(Debug)]
pub struct Guard {
    state: Mutex<State>,
    detached: Notify,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    attachment: Attachment,
    /// The failures of all operations.
    all: Row,
    /// The failures of each operation.
    kinds: [Row; Operation::COUNT],
    /// The cause of the last one.
    cause: String,
}

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    failures: u32,
    /// When the last failure that counted was seen.
    counted: Option<Instant>,
}

/// The result of an operation, and when it took place.
#[derive(Clone, Copy, Debug)]
pub struct Done<T> {
    pub value: T,
    pub began: Instant,
    pub ended: Instant,
}

impl Guard {
    /// A guard for operations of at most `timeout`. The store is attached.
    pub fn new(timeout: Duration, metrics: Arc<Metrics>) -> Self {
        metrics.attached(true);
        let attachment = Attachment::Attached { returned: None };
        let (all, kinds) = <(Row, [Row; Operation::COUNT])>::default();
        let state = State { attachment, all, kinds, cause: String::new() };
        Self { state: Mutex::new(state), detached: Notify::new(), timeout, metrics }
    }

    pub fn attachment(&self) -> Attachment {
        self.state.lock().attachment
    }

    pub fn is_attached(&self) -> bool {
        matches!(self.attachment(), Attachment::Attached { .. })
    }

    /// Runs an operation of a call.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it fails, when it takes too long, or when the store is away.
    pub async fn run<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<Done<T>, Unavailable> {
        if !self.is_attached() {
            return Err(Unavailable);
        }
        self.maintain(operation, work).await.map_err(|_| Unavailable)
    }

    /// Runs an operation of the upkeep: as [`Self::run`] does, and also while the store is away.
    ///
    /// # Errors
    ///
    /// When it fails or takes too long.
    pub async fn maintain<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<Done<T>, Failed> {
        let began = Instant::now();
        let result = self.attempt(operation, work).await;
        match &result {
            Ok(_) => self.state.lock().succeed(operation),
            Err(failed) => self.failed(operation, began, failed),
        }
        result
    }

    /// Runs an operation whether the store is away or not, and draws no conclusion.
    ///
    /// # Errors
    ///
    /// When it fails or takes too long.
    pub async fn attempt<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<Done<T>, Failed> {
        let began = Instant::now();
        let result = timeout(self.timeout, work).await;
        let ended = Instant::now();
        let (outcome, result) = match result {
            Ok(Ok(value)) => (Outcome::Ok, Ok(Done { value, began, ended })),
            Ok(Err(failed)) => (Outcome::Failed, Err(failed)),
            Err(_) => (Outcome::TimedOut, Err(Failed { cause: "no reply in time".into() })),
        };
        self.metrics.operation(operation, outcome, ended - began);
        result
    }

    /// Detaches because the store did not answer at the start.
    pub fn detach(&self, failed: Failed) {
        let mut state = self.state.lock();
        state.cause = failed.cause;
        self.detach_now(&mut state);
    }

    fn failed(&self, operation: Operation, began: Instant, failed: &Failed) {
        let mut state = self.state.lock();
        if state.fail(operation, began, Instant::now(), failed) {
            self.detach_now(&mut state);
        }
    }

    fn detach_now(&self, state: &mut State) {
        state.attachment = Attachment::Detached { since: Instant::now() };
        (state.all, state.kinds) = Default::default();
        self.metrics.attached(false);
        warn!(cause = state.cause, "the store does not answer; the service goes on without it");
        self.detached.notify_one();
    }

    /// Attaches the store, because it is back.
    pub fn attach(&self) {
        let mut state = self.state.lock();
        let Attachment::Detached { since } = state.attachment else {
            return;
        };
        let now = Instant::now();
        let away = now - since;
        state.attachment = Attachment::Attached { returned: Some((now, away)) };
        self.metrics.attached(true);
        info!(?away, cause = state.cause, "the store answers again");
    }

    /// Waits until the store is away.
    pub async fn away(&self) {
        while self.is_attached() {
            self.detached.notified().await;
        }
    }
}

/// The pauses before the probes of a store that is away.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
    attached: Option<Instant>,
}

impl Pauses {
    pub fn new() -> Self {
        Self { next: PROBE_MIN, attached: None }
    }

    /// Notes that the store is attached.
    pub fn attached(&mut self, now: Instant) {
        self.attached = Some(now);
    }

    /// Notes that the store is away. The pauses begin again if it had stayed attached for long enough.
    pub fn detached(&mut self, attachment: Attachment) {
        if let (Attachment::Detached { since }, Some(attached)) = (attachment, self.attached)
            && since.saturating_duration_since(attached) >= STEADY
        {
            *self = Self::new();
        }
    }

    /// The next pause: longer than the one before, up to a bound.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PROBE_MAX);
        pause.mul_f64(1.0 + JITTER * rand::random::<f64>())
    }
}

impl State {
    fn succeed(&mut self, operation: Operation) {
        self.all.failures = 0;
        self.kinds[operation as usize].failures = 0;
    }

    /// Notes a failure of an operation that began at `began`. Returns whether it is the last one before the
    /// store counts as away.
    fn fail(&mut self, operation: Operation, began: Instant, now: Instant, failed: &Failed) -> bool {
        if !matches!(self.attachment, Attachment::Attached { .. }) {
            return false;
        }
        let rows = [&mut self.all, &mut self.kinds[operation as usize]].map(|row| row.fail(began, now));
        if rows != [None; 2] {
            self.cause.clone_from(&failed.cause);
        }
        rows.contains(&Some(FAILURES))
    }
}

impl Row {
    /// Notes a failure of an operation that began at `began`. Returns how many there are, if it counts.
    fn fail(&mut self, began: Instant, now: Instant) -> Option<u32> {
        // One stall of this process lets many operations time out together. They count as one.
        if self.counted.is_some_and(|counted| began < counted) {
            return None;
        }
        self.counted = Some(now);
        self.failures += 1;
        Some(self.failures)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{advance, sleep};

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);
    const SECOND: Duration = Duration::from_secs(1);

    fn guard() -> Arc<Guard> {
        Arc::new(Guard::new(TIMEOUT, Arc::default()))
    }

    async fn succeed(guard: &Guard) -> Result<u32, Unavailable> {
        guard.run(Operation::Read, ready(Ok(7))).await.map(|done| done.value)
    }

    async fn fail(guard: &Guard) {
        let failed = ready(Err::<(), _>(Failed { cause: "refused".into() }));
        assert!(guard.run(Operation::Read, failed).await.is_err());
        advance(Duration::from_millis(1)).await;
    }

    async fn hang(guard: &Guard) {
        assert!(guard.run(Operation::Read, pending::<Result<(), _>>()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_ends_with_the_time_out() {
        let (guard, start) = (guard(), Instant::now());
        hang(&guard).await;
        // The timer of tokio has a resolution of a millisecond.
        assert!((TIMEOUT..TIMEOUT + Duration::from_millis(2)).contains(&start.elapsed()));
        let done = guard.run(Operation::Read, async {
            sleep(TIMEOUT / 2).await;
            Ok(())
        });
        let done = done.await.unwrap();
        assert_eq!(done.ended - done.began, TIMEOUT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_detach() {
        let guard = guard();
        fail(&guard).await;
        hang(&guard).await;
        assert_eq!(succeed(&guard).await, Ok(7));
        fail(&guard).await;
        fail(&guard).await;
        assert!(guard.is_attached());
        hang(&guard).await;
        assert_eq!(guard.attachment(), Attachment::Detached { since: Instant::now() });
        assert_eq!(succeed(&guard).await, Err(Unavailable), "the store is not asked");
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_of_one_kind_detach_while_others_succeed() {
        let guard = guard();
        for number in 0..3 {
            assert!(guard.is_attached(), "{number}");
            let denied = ready(Err::<(), _>(Failed { cause: "NOPERM".into() }));
            assert!(guard.run(Operation::Turn, denied).await.is_err());
            advance(Duration::from_millis(1)).await;
            let _ = succeed(&guard).await;
        }
        assert!(!guard.is_attached());
        guard.attach();
        fail(&guard).await;
        fail(&guard).await;
        assert!(guard.run(Operation::Turn, ready(Ok(()))).await.is_ok());
        assert!(guard.is_attached());
        fail(&guard).await;
        assert!(!guard.is_attached(), "a success of another kind does not count");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_one_stall_count_once() {
        let guard = guard();
        let hang_in_task = || {
            let guard = guard.clone();
            tokio::spawn(async move { hang(&guard).await })
        };
        for _ in 0..2 {
            let stalled: Vec<_> = (0..100).map(|_| hang_in_task()).collect();
            for task in stalled {
                task.await.unwrap();
            }
        }
        assert!(guard.is_attached());
        hang(&guard).await;
        assert!(!guard.is_attached());
    }

    #[tokio::test(start_paused = true)]
    async fn operations_of_the_upkeep_run_while_the_store_is_away() {
        let guard = guard();
        guard.detach(Failed { cause: "refused".into() });
        guard.away().await;
        let since = Instant::now();
        advance(9 * SECOND).await;
        assert!(guard.attempt(Operation::Probe, ready(Ok(()))).await.is_ok());
        assert!(guard.maintain(Operation::Scopes, ready(Ok(()))).await.is_ok());
        assert_eq!(guard.attachment(), Attachment::Detached { since });
        guard.attach();
        let returned = Some((since + 9 * SECOND, 9 * SECOND));
        assert_eq!(guard.attachment(), Attachment::Attached { returned });
        assert_eq!(succeed(&guard).await, Ok(7));
        fail(&guard).await;
        fail(&guard).await;
        assert!(guard.is_attached(), "failures count from the return");
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_draws_no_conclusions() {
        let guard = guard();
        for _ in 0..9 {
            let failed = ready(Err::<(), _>(Failed { cause: "refused".into() }));
            assert!(guard.attempt(Operation::Release, failed).await.is_err());
            advance(SECOND).await;
        }
        assert!(guard.is_attached());
    }

    #[test]
    fn the_pauses_before_probes_double_up_to_half_a_minute() {
        let mut pauses = Pauses::new();
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let least = Duration::from_secs(expected);
            let pause = pauses.next();
            assert!(least <= pause && pause <= least.mul_f64(1.0 + JITTER), "{pause:?}");
        }
    }
}
