//! [`Breaker`]: a circuit breaker for each instance. It pauses an instance whose calls keep failing.
//!
//! Only failures to answer count. Everything that Hypersender says is an answer, "no" and "too many"
//! included.
//!
//! tower-resilience's circuit breaker is not used: it changes the type of the error, has one failure model
//! and a fixed open time, and runs on std's clock.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tower::ServiceExt;
use tracing::{info, warn};

use super::{
    ask::{Ask, LookupService},
    keyed::{Idle, Keyed},
};
use crate::{
    domain::{Answer, Instance, Lookup, LookupError, Signal},
    telemetry::{BreakerPhase, LookupMetrics as Metrics},
};

/// When the breaker opens.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The number of failures in a row that open it; 0 switches it off.
    pub failures: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5 }
    }
}

/// The breaker also opens when there were at least this many calls ...
const CALLS_MIN: u32 = 20;
/// ... within this many seconds, and fewer than half of them were answered. The window has one slot for each
/// second.
const WINDOW: usize = 30;
const OPEN_MIN: Duration = Duration::from_secs(2);
const OPEN_MAX: Duration = Duration::from_secs(60);
/// The wait that callers get while a probe is on its way.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// The breakers of all instances. Clones share them.
#[derive(Clone, Debug)]
pub struct Circuits(Arc<Keyed<Instance, Circuit>>);

impl Circuits {
    /// Breakers that are all closed.
    pub fn new() -> Self {
        Self(Arc::new(Keyed::default()))
    }

    /// Until when the breaker of `instance` lets no call pass, as far as it is known at `now`; `None` when
    /// the next call may pass, as a probe or otherwise.
    pub fn open_until(&self, instance: &Instance, now: Instant) -> Option<Instant> {
        let circuit = self.0.get(instance)?;
        let refusal = circuit.state.lock().phase.refusal(now);
        refusal.map(|wait| now + wait)
    }
}

/// The layer with a breaker for each instance.
#[derive(Clone, Debug)]
pub struct Breaker<S> {
    circuits: Circuits,
    settings: Settings,
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S> Breaker<S> {
    /// Puts the breaker of each instance in front of `inner`.
    pub fn new(circuits: Circuits, settings: Settings, metrics: Arc<Metrics>, inner: S) -> Self {
        Self { circuits, settings, metrics, inner }
    }
}

impl<S: LookupService> Ask for Breaker<S> {
    async fn ask(self, mut lookup: Lookup) -> Result<Answer, LookupError> {
        if self.settings.failures == 0 {
            return self.inner.oneshot(lookup).await;
        }
        let instance = lookup.key.scope.instance.clone();
        let circuit = self.circuits.0.of(&instance, || Circuit::new(self.metrics.clone()))?;
        let admitted = circuit.admit(instance, Instant::now());
        let mut pass = admitted.map_err(|wait| LookupError::CircuitOpen { wait })?;
        lookup.is_probe = pass.probe;
        let result = self.inner.oneshot(lookup).await;
        pass.signal = result.as_ref().map_or_else(|error| error.handling().signal, |_| Signal::Success);
        pass.asked = result.as_ref().err().and_then(LookupError::retry_after).unwrap_or_default();
        pass.failures_max = self.settings.failures;
        result
    }
}

#[derive(Debug)]
struct Circuit {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    in_a_row: u32,
    recent: Window,
    /// The latest end of a pause that a failure asked for.
    asked_until: Option<Instant>,
    /// How long the breaker stays open the next time.
    open_next: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probing,
}

impl Phase {
    /// How long calls are refused from `now` on; `None` when the next one passes.
    fn refusal(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Open { until } if until > now => Some(until - now),
            Self::Probing => Some(PROBE_WAIT),
            Self::Closed | Self::Open { .. } => None,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        let (phase, recent) = (Phase::Closed, Window::default());
        Self { phase, in_a_row: 0, recent, asked_until: None, open_next: OPEN_MIN }
    }
}

impl From<Phase> for BreakerPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Closed => Self::Closed,
            Phase::Open { .. } => Self::Open,
            Phase::Probing => Self::HalfOpen,
        }
    }
}

impl Circuit {
    fn new(metrics: Arc<Metrics>) -> Self {
        let state = State::default();
        metrics.breaker(None, Some(state.phase.into()));
        Self { state: Mutex::new(state), metrics }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.phase;
        let changed = change(&mut state);
        self.metrics.breaker(Some(before.into()), Some(state.phase.into()));
        changed
    }

    /// Lets a call pass, or returns the time until the next one passes.
    fn admit(self: Arc<Self>, instance: Instance, now: Instant) -> Result<Pass, Duration> {
        let probe = self.change(|state| match (state.phase.refusal(now), state.phase) {
            (Some(wait), _) => Err(wait),
            (None, Phase::Closed) => Ok(false),
            (None, Phase::Open { .. } | Phase::Probing) => {
                state.phase = Phase::Probing;
                Ok(true)
            }
        })?;
        let (signal, asked) = (Signal::None, Duration::ZERO);
        Ok(Pass { instance, circuit: self, probe, signal, asked, failures_max: u32::MAX })
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        let phase = self.state.lock().phase;
        self.metrics.breaker(Some(phase.into()), None);
    }
}

impl Idle for Circuit {
    fn is_idle(&self, now: Instant) -> bool {
        let state = self.state.lock();
        // Failures are forgotten after a while. Otherwise names that callers invent would fill the table for
        // ever.
        match state.phase {
            Phase::Closed => state.recent.failed(now) == 0,
            Phase::Open { until } => until + OPEN_MAX <= now,
            Phase::Probing => false,
        }
    }
}

/// A call that may pass. Its signal counts when it is dropped. A call that is given up before its end
/// therefore counts as neither success nor failure, and after such a probe the next call becomes the probe.
#[derive(Debug)]
struct Pass {
    instance: Instance,
    circuit: Arc<Circuit>,
    probe: bool,
    signal: Signal,
    /// The pause that Hypersender asked for.
    asked: Duration,
    failures_max: u32,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let now = Instant::now();
        self.circuit.change(|state| {
            if self.signal == Signal::Failure {
                state.asked_until = state.asked_until.max(Some(now + self.asked));
            }
            self.apply(state, now);
        });
    }
}

impl Pass {
    fn apply(&self, state: &mut State, now: Instant) {
        match (self.signal, self.probe, state.phase) {
            (Signal::None, true, _) => state.phase = Phase::Open { until: state.not_before(now) },
            (Signal::None, false, _) => {}
            (Signal::Success, true, _) => {
                *state = State::default();
                info!(instance = self.instance.as_str(), "an instance answers again");
            }
            (Signal::Failure, true, _) => state.open(&self.instance, now),
            (signal, false, Phase::Closed) => {
                if state.count(now, signal == Signal::Success, self.failures_max) {
                    state.open(&self.instance, now);
                }
            }
            // A call from before the breaker opened changes nothing, unless it asks for a longer pause.
            (Signal::Failure, false, Phase::Open { until }) => {
                state.phase = Phase::Open { until: state.not_before(until) };
            }
            (Signal::Failure, false, Phase::Probing) | (Signal::Success, false, _) => {}
        }
    }
}

impl State {
    /// Counts a call. Returns whether the breaker must open.
    fn count(&mut self, now: Instant, answered: bool, failures_max: u32) -> bool {
        self.in_a_row = if answered { 0 } else { self.in_a_row + 1 };
        self.recent.count(now, answered);
        let (answered, failed) = (self.recent.answered(now), self.recent.failed(now));
        self.in_a_row >= failures_max || (answered + failed >= CALLS_MIN && answered < failed)
    }

    /// `until`, or a later instant if Hypersender asked for a longer pause.
    fn not_before(&self, until: Instant) -> Instant {
        self.asked_until.map_or(until, |asked| asked.max(until))
    }

    fn open(&mut self, instance: &Instance, now: Instant) {
        let time = self.open_next;
        // The doubled time is a guess. Hypersender's own hint is better when it is longer.
        let until = self.not_before(now + time);
        let wait = until - now;
        warn!(instance = instance.as_str(), time = ?wait, "an instance keeps failing; its breaker opens");
        *self = Self { phase: Phase::Open { until }, open_next: (time * 2).min(OPEN_MAX), ..Self::default() };
    }
}

/// The calls of the last [`WINDOW`] seconds, in slots of one second.
#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    slots: [Slot; WINDOW],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    answered: u32,
    failed: u32,
}

impl Window {
    fn count(&mut self, now: Instant, answered: bool) {
        let second = now.duration_since(*self.start.get_or_insert(now)).as_secs();
        let place = usize::try_from(second % WINDOW as u64).expect("it is less than WINDOW");
        let slot = &mut self.slots[place];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        *(if answered { &mut slot.answered } else { &mut slot.failed }) += 1;
    }

    fn answered(&self, now: Instant) -> u32 {
        self.recent(now).map(|slot| slot.answered).sum()
    }

    fn failed(&self, now: Instant) -> u32 {
        self.recent(now).map(|slot| slot.failed).sum()
    }

    fn recent(&self, now: Instant) -> impl Iterator<Item = &Slot> {
        let second = self.start.map_or(0, |start| now.duration_since(start).as_secs());
        self.slots.iter().filter(move |slot| slot.second + WINDOW as u64 > second)
    }
}
