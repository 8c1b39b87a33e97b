//! [`Guard`]: the bound of every operation in time, and whether the store answers at all.
//!
//! After some failures in a row the process is detached: operations are refused at once, until a probe in the
//! background finds that the store answers again (rule 7 of the design of the store).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{Attachment, Unavailable, engine::Failed};
use crate::telemetry::{StoreMetrics as Metrics, StoreOperation as Operation, StoreOutcome as Outcome};

/// The failures in a row that detach.
const FAILURES: u32 = 3;
/// The first pause before a probe. Each further one is twice as long as the one before ...
const PROBE_MIN: Duration = Duration::from_secs(1);
/// ... up to this length.
const PROBE_MAX: Duration = Duration::from_secs(30);
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
    /// The failures since the last success.
    failures: u32,
    /// When the last failure that counted was seen.
    counted: Option<Instant>,
    /// The cause of the last one.
    cause: String,
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
        let state = State { attachment, failures: 0, counted: None, cause: String::new() };
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
            Ok(_) => self.state.lock().failures = 0,
            Err(failed) => self.failed(began, failed),
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

    fn failed(&self, began: Instant, failed: &Failed) {
        let mut state = self.state.lock();
        if state.fail(began, Instant::now(), failed) {
            self.detach_now(&mut state);
        }
    }

    fn detach_now(&self, state: &mut State) {
        state.attachment = Attachment::Detached { since: Instant::now() };
        state.failures = 0;
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
        state.counted = None;
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
pub struct Pauses(Duration);

impl Pauses {
    pub fn new() -> Self {
        Self(PROBE_MIN)
    }

    /// The next pause: longer than the one before, up to a bound.
    pub fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PROBE_MAX);
        pause.mul_f64(1.0 + JITTER * rand::random::<f64>())
    }
}

impl State {
    /// Notes a failure of an operation that began at `began`. Returns whether it is the last one before the
    /// store counts as away.
    fn fail(&mut self, began: Instant, now: Instant, failed: &Failed) -> bool {
        let is_attached = matches!(self.attachment, Attachment::Attached { .. });
        // One stall of this process lets many operations time out together. They count as one.
        if !is_attached || self.counted.is_some_and(|counted| began < counted) {
            return false;
        }
        self.counted = Some(now);
        self.cause.clone_from(&failed.cause);
        self.failures += 1;
        self.failures == FAILURES
    }
}
