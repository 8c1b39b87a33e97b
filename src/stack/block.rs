//! [`Block`]: the pause after a CDN in front of Hypersender has blocked this machine's address, with a
//! challenge or a block page.
//!
//! A block says nothing about an instance, a credential or a contact, and further requests prolong it. So
//! everything behind the base URL pauses together, and one probe at a time finds out when the block is over.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tracing::{info, warn};

use super::ask::Ask;
use crate::domain::{Answer, AttemptError, Lookup, LookupError, Signal};

/// The first pause. Each further one is twice as long as the one before ...
const TIME_MIN: Duration = Duration::from_secs(30);
/// ... up to this length.
const TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// The wait that callers get while a probe is on its way.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Whether this machine's address is blocked. There is one such state for everything behind the base URL.
#[derive(Debug)]
pub struct Block(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    /// The length of the last pause, without what Hypersender asked for; `None` when there was none.
    time: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Blocked { until: Instant },
    Probing,
}

impl Block {
    /// A state without a block.
    pub fn new() -> Self {
        Self(Mutex::new(State::new()))
    }

    /// The error that takes the place of an answer at `now`; `None` when Hypersender may be asked.
    pub fn failure(&self, now: Instant) -> Option<LookupError> {
        self.0.lock().failure(now)
    }

    /// Lets a request pass. After a block, one request at a time passes, as a probe.
    fn admit(&self, now: Instant) -> Result<Pass<'_>, LookupError> {
        let mut state = self.0.lock();
        if let Some(failure) = state.failure(now) {
            return Err(failure);
        }
        let probe = state.phase != Phase::Open;
        if probe {
            state.phase = Phase::Probing;
        }
        Ok(Pass { block: self, probe })
    }
}

impl State {
    fn new() -> Self {
        Self { phase: Phase::Open, time: None }
    }

    fn failure(&self, now: Instant) -> Option<LookupError> {
        let wait = match self.phase {
            Phase::Blocked { until } if until > now => until - now,
            Phase::Probing => PROBE_WAIT,
            Phase::Open | Phase::Blocked { .. } => return None,
        };
        Some(LookupError::Blocked { wait })
    }

    /// Begins a block, which lasts at least as long as Hypersender's hint. Requests that were on the wire
    /// together are refused by the same block, so only the first of them begins one.
    fn begin(&mut self, asked: Duration, now: Instant) -> Duration {
        match self.phase {
            Phase::Blocked { until } if until > now => return until - now,
            Phase::Open | Phase::Blocked { .. } | Phase::Probing => {}
        }
        let time = self.time.map_or(TIME_MIN, |time| (time * 2).min(TIME_MAX));
        let wait = self.pause(time, asked, now);
        warn!(?wait, "a CDN blocks this machine's address; all requests to upstream pause");
        wait
    }

    /// Goes on with the block for as long as the last time, after a probe without an answer. Callers should
    /// not each wait for a time-out.
    fn go_on(&mut self, asked: Duration, now: Instant) {
        let wait = self.pause(self.time.unwrap_or(TIME_MIN), asked, now);
        info!(
            ?wait,
            "a probe got no answer of the API, so the block goes on; all requests to upstream pause"
        );
    }

    fn pause(&mut self, time: Duration, asked: Duration, now: Instant) -> Duration {
        let wait = asked.max(time);
        *self = Self { phase: Phase::Blocked { until: now + wait }, time: Some(time) };
        wait
    }
}

/// A request that may be sent. When a probe is dropped before its end, the next request becomes the probe.
#[derive(Debug)]
struct Pass<'a> {
    block: &'a Block,
    probe: bool,
}

impl Pass<'_> {
    fn end(mut self, result: Result<Answer, AttemptError>, now: Instant) -> Result<Answer, LookupError> {
        let mut state = self.block.0.lock();
        let probe = std::mem::take(&mut self.probe);
        let signal = result.as_ref().map_or_else(AttemptError::signal, |_| Signal::Success);
        let result = result.map_err(|failure| failure.error);
        match (&result, signal) {
            (Err(LookupError::Blocked { .. }), _) if !probe && state.phase == Phase::Probing => {
                // This request was sent before the block began. Only the probe may lengthen the block.
                return Err(LookupError::Blocked { wait: PROBE_WAIT });
            }
            (Err(LookupError::Blocked { wait }), _) => {
                return Err(LookupError::Blocked { wait: state.begin(*wait, now) });
            }
            (Ok(_) | Err(_), Signal::Success) if probe => {
                *state = State::new();
                info!("upstream accepts requests from this machine's address again");
            }
            // No answer of the API says nothing about the block. A 5xx except 501 counts as none, because it
            // may come from the network in front, and so does everything that is not JSON.
            (Ok(_) | Err(_), Signal::Failure | Signal::None) if probe => {
                let asked = result.as_ref().err().and_then(LookupError::retry_after);
                state.go_on(asked.unwrap_or_default(), now);
            }
            (Ok(_) | Err(_), Signal::Success | Signal::Failure | Signal::None) => {}
        }
        result
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.block.0.lock().phase = Phase::Blocked { until: Instant::now() };
        }
    }
}

/// A tower service that makes one attempt for each look-up: the part below all layers.
pub trait AttemptService:
    Service<Lookup, Response = Answer, Error: Into<AttemptError>, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> AttemptService for S where
    S: Service<Lookup, Response = Answer, Error: Into<AttemptError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The layer that lets no request pass during a block.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    block: Arc<Block>,
    inner: S,
}

impl<S> Gate<S> {
    /// Asks through `inner` unless there is a `block`.
    pub fn new(block: Arc<Block>, inner: S) -> Self {
        Self { block, inner }
    }
}

impl<S: AttemptService> Ask for Gate<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let pass = self.block.admit(Instant::now())?;
        let result = self.inner.oneshot(lookup).await.map_err(Into::into);
        pass.end(result, Instant::now())
    }
}
