//! [`Breaker`]: an instance whose calls keep failing is left alone for a while.
//!
//! Only failures to answer count. Whatever Hypersender says, "no" and "too many" included, is an answer.

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

/// When it opens.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Failures in a row that open it; 0 switches it off.
    pub failures: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5 }
    }
}

/// It also opens when, of at least this many answers and failures ...
const CALLS_MIN: u32 = 20;
/// ... within this time, fewer than half were answers. One slot of the window a second.
const WINDOW: usize = 30;
const OPEN_MIN: Duration = Duration::from_secs(2);
const OPEN_MAX: Duration = Duration::from_secs(60);
/// What callers are told to wait while a probe is on its way.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// A breaker for each instance, around a service that asks.
#[derive(Clone, Debug)]
pub struct Breaker<S> {
    instances: Arc<Keyed<Instance, Circuit>>,
    settings: Settings,
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S> Breaker<S> {
    /// Puts a breaker for each instance in front of `inner`.
    pub fn new(settings: Settings, metrics: Arc<Metrics>, inner: S) -> Self {
        Self { instances: Arc::new(Keyed::new()), settings, metrics, inner }
    }
}

impl<S: LookupService> Ask for Breaker<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        if self.settings.failures == 0 {
            return self.inner.oneshot(lookup).await;
        }
        let instance = lookup.key.scope.instance.clone();
        let circuit = self.instances.of(&instance, || Circuit::new(self.metrics.clone()))?;
        let admitted = circuit.admit(instance, Instant::now());
        let mut pass = admitted.map_err(|wait| LookupError::CircuitOpen { wait })?;
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
    /// The latest instant before which a failure asked not to be asked again.
    asked_until: Option<Instant>,
    /// How long it stays open the next time.
    open_next: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probing,
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

    /// Lets a call pass, or says how long none does.
    fn admit(self: Arc<Self>, instance: Instance, now: Instant) -> Result<Pass, Duration> {
        let probe = self.change(|state| match state.phase {
            Phase::Closed => Ok(false),
            Phase::Open { until } if until > now => Err(until - now),
            Phase::Probing => Err(PROBE_WAIT),
            Phase::Open { .. } => {
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
        // Failures are not held against an instance for ever, or made-up names would fill the room for good.
        match state.phase {
            Phase::Closed => state.recent.failed(now) == 0,
            Phase::Open { until } => until + OPEN_MAX <= now,
            Phase::Probing => false,
        }
    }
}

/// A call that was let through. Its outcome counts when it is dropped, so that a call that is given up on the way counts
/// as nothing and a probe gives its place back.
#[derive(Debug)]
struct Pass {
    instance: Instance,
    circuit: Arc<Circuit>,
    probe: bool,
    signal: Signal,
    /// How long Hypersender asked not to be asked again.
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
            self.tell(state, now);
        });
    }
}

impl Pass {
    fn tell(&self, state: &mut State, now: Instant) {
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
            // A call from before it opened tells nothing new, but for a longer wait.
            (Signal::Failure, false, Phase::Open { until }) => {
                state.phase = Phase::Open { until: state.not_before(until) };
            }
            (Signal::Failure, false, Phase::Probing) | (Signal::Success, false, _) => {}
        }
    }
}

impl State {
    /// Counts a call, and says whether the circuit must open.
    fn count(&mut self, now: Instant, answered: bool, failures_max: u32) -> bool {
        self.in_a_row = if answered { 0 } else { self.in_a_row + 1 };
        self.recent.count(now, answered);
        let (answered, failed) = (self.recent.answered(now), self.recent.failed(now));
        self.in_a_row >= failures_max || (answered + failed >= CALLS_MIN && answered < failed)
    }

    /// `until`, or later when Hypersender asked for that.
    fn not_before(&self, until: Instant) -> Instant {
        self.asked_until.map_or(until, |asked| asked.max(until))
    }

    fn open(&mut self, instance: &Instance, now: Instant) {
        let time = self.open_next;
        // Hypersender knows better than this guess, when it asks for longer.
        let until = self.not_before(now + time);
        let wait = until - now;
        warn!(instance = instance.as_str(), time = ?wait, "an instance keeps failing and is left alone");
        *self = Self { phase: Phase::Open { until }, open_next: (time * 2).min(OPEN_MAX), ..Self::default() };
    }
}

/// Calls of the last [`WINDOW`] seconds, in slots of one.
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
