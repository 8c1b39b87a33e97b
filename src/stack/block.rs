//! [`Block`]: the pause after a CDN in front of Hypersender has blocked this machine's address, with a
//! challenge or a block page.
//!
//! A block says nothing about an instance, a credential or a contact, and further requests prolong it. So
//! everything behind the base URL pauses together, and one probe at a time finds out when the block is over.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tower::ServiceExt;
use tracing::{info, warn};

use super::ask::{Ask, LookupService};
use crate::domain::{Answer, Lookup, LookupError};

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
    time_next: Duration,
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
        Self(Mutex::new(State { phase: Phase::Open, time_next: TIME_MIN }))
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
        let wait = asked.max(self.time_next);
        warn!(?wait, "a CDN blocks this machine's address; all requests to upstream pause");
        self.phase = Phase::Blocked { until: now + wait };
        self.time_next = (self.time_next * 2).min(TIME_MAX);
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
    fn end(mut self, result: Result<Answer, LookupError>, now: Instant) -> Result<Answer, LookupError> {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.block.0.lock();
        match result {
            // This request was sent before the block began. Only the probe may lengthen the block.
            Err(LookupError::Blocked { .. }) if !probe && state.phase == Phase::Probing => {
                Err(LookupError::Blocked { wait: PROBE_WAIT })
            }
            Err(LookupError::Blocked { wait }) => Err(LookupError::Blocked { wait: state.begin(wait, now) }),
            // A time-out says nothing about the block, and callers should not each wait for one.
            Err(LookupError::TimedOut { .. }) if probe => {
                state.phase = Phase::Blocked { until: now + TIME_MIN };
                result
            }
            Err(LookupError::TimedOut { .. }) => result,
            // Any other result of a probe shows that requests pass again.
            Ok(_)
            | Err(
                LookupError::NotCached
                | LookupError::RateLimited { .. }
                | LookupError::Overloaded
                | LookupError::CircuitOpen { .. }
                | LookupError::DeadlineExceeded
                | LookupError::Internal
                | LookupError::CredentialsRejected(_)
                | LookupError::RequestRejected
                | LookupError::NotFound(_)
                | LookupError::InstanceStarting
                | LookupError::InstanceNotConnected
                | LookupError::UpstreamRateLimited { .. }
                | LookupError::Unavailable { .. }
                | LookupError::Queued
                | LookupError::ResponseInvalid,
            ) => {
                if probe {
                    *state = State { phase: Phase::Open, time_next: TIME_MIN };
                    info!("upstream accepts requests from this machine's address again");
                }
                result
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.block.0.lock().phase = Phase::Blocked { until: Instant::now() };
        }
    }
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

impl<S: LookupService> Ask for Gate<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let pass = self.block.admit(Instant::now())?;
        let result = self.inner.oneshot(lookup).await;
        pass.end(result, Instant::now())
    }
}
