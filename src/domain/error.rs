//! [`LookupError`]: why a look-up has no answer, one variant for each thing a caller could act on; and what
//! each layer of the stack does about it.
//!
//! Whether to retry, to cool down, to count as a failure, or to give way to a stored answer is decided by one
//! table, [`LookupError::handling`]; the layers ask it. Each match names every variant, so that a new one
//! must be decided everywhere. Calls that never become a look-up are [`super::Refusal`]s.
//!
//! `Display` is the text that the caller reads. It never holds a token, a number, a link or a text of
//! Hypersender's; the sources of an error are logged where it is found and do not travel up the stack.

use std::time::Duration;

use thiserror::Error;

/// The wait for a queued request or a starting instance. Hypersender names none for them.
const SLOW_WAIT: Duration = Duration::from_secs(5);
/// The longest wait after a 429 before a retry. A longer one is reported to the caller at once.
const RATE_LIMIT_WAIT_MAX: Duration = Duration::from_secs(2);
/// The wait before a retry after a 429 without a hint.
const RATE_LIMIT_WAIT_UNKNOWN: Duration = Duration::from_secs(1);

/// Why a look-up has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LookupError {
    /// The caller asks for a cached answer only, and none is stored.
    #[error("the contact is not cached and cache_control asks for cached answers only")]
    NotCached,
    /// The server's own rate limit for the instance is reached.
    #[error("the server's rate limit for this instance is reached")]
    RateLimited {
        /// Time until the next free turn.
        wait: Duration,
    },
    /// A batch, an avatar or a stream found no turn, and waits for one outside the flight. No caller ever
    /// gets this error.
    #[error("the server's rate limit for this instance leaves no turn to this look-up now")]
    NoTurnYet {
        /// Time until the look-up may find a turn, if no other call takes that turn before.
        wait: Duration,
    },
    /// Too much work is in progress.
    #[error("the server is working at its limit")]
    Overloaded,
    /// The circuit breaker of the instance is open after failures.
    #[error("Hypersender keeps failing for this instance; the server pauses before it asks again")]
    CircuitOpen {
        /// Time until Hypersender is asked again.
        wait: Duration,
    },
    /// The deadline has passed, or leaves no time for an attempt.
    #[error("the deadline passed before Hypersender answered")]
    DeadlineExceeded,
    /// A defect of this server, such as a panic.
    #[error("internal error")]
    Internal,
    /// Hypersender rejects the token.
    #[error("{0}")]
    CredentialsRejected(Rejected),
    /// Hypersender rejects the request.
    #[error("Hypersender rejects the request for this contact")]
    RequestRejected,
    /// There is no such contact.
    #[error("{0}")]
    NotFound(NotFound),
    /// The instance is being started.
    #[error("the WhatsApp instance is starting")]
    InstanceStarting,
    /// The instance is not logged in to WhatsApp.
    #[error("the WhatsApp instance is not connected; connect it in the Hypersender dashboard")]
    InstanceNotConnected,
    /// Hypersender's rate limit is reached.
    #[error("Hypersender's rate limit for this instance is reached")]
    UpstreamRateLimited {
        /// The wait that Hypersender asks for, if it gives a hint.
        retry_after: Option<Duration>,
    },
    /// Hypersender failed or cannot be reached.
    #[error("Hypersender is unavailable")]
    Unavailable {
        /// The wait that Hypersender asks for, if it gives a hint.
        retry_after: Option<Duration>,
        /// Whether another attempt may do better.
        again: Again,
    },
    /// Hypersender ended each connection gracefully before it took the request.
    #[error("Hypersender's connections keep ending before they take the request")]
    SentAway,
    /// A CDN in front of Hypersender blocks this machine, whatever the request is.
    #[error("a CDN in front of Hypersender blocks this server; the server pauses before it asks again")]
    Blocked {
        /// Time until Hypersender is asked again.
        wait: Duration,
    },
    /// Hypersender did not answer in time.
    #[error("Hypersender did not answer in time")]
    TimedOut {
        /// Time after which another call makes sense, as far as this server knows.
        retry_after: Option<Duration>,
    },
    /// Hypersender put the request into a queue.
    #[error("Hypersender queued the request instead of answering it")]
    Queued,
    /// Hypersender's answer cannot be understood.
    #[error("Hypersender's answer cannot be understood")]
    ResponseInvalid,
}

/// Why there is no such contact.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotFound {
    /// Hypersender does not know the contact or the instance.
    #[error("Hypersender knows no such contact or instance")]
    Upstream,
    /// The number has no WhatsApp account.
    #[error("the number is not on WhatsApp")]
    NotOnWhatsApp,
}

/// Which token Hypersender rejects, and how.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Rejected {
    /// The server's own token. The reason does not matter to the caller.
    #[error("Hypersender rejects the configured token for this instance")]
    Own,
    /// The caller's token, which Hypersender does not know.
    #[error("Hypersender does not know the token of this call")]
    Unknown,
    /// The caller's token, which Hypersender knows but does not accept for this instance.
    #[error("Hypersender does not allow the token of this call to ask this instance")]
    Forbidden,
}

/// Whether another attempt at once makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No: it would change nothing, or do harm.
    No,
    /// One attempt: the failure may pass, but is more likely to stay.
    Once,
    /// Yes: the failure is likely to pass.
    Yes,
}

/// The reach of a cool-down: for which look-ups Hypersender is not asked for a while after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One contact of one scope.
    Key,
    /// Every contact of the instance, with this credential.
    Scope,
}

/// The health of an instance, as the result of one look-up shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Hypersender answers for the instance.
    Success,
    /// Hypersender fails to answer for the instance.
    Failure,
    /// The result says nothing about the instance.
    None,
}

/// The reaction of the layers of the stack to an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// Whether another attempt for the same caller may do better.
    pub again: Again,
    /// The reach of the cool-down after the error; `None` when nothing cools down.
    pub cool_down: Option<Reach>,
    /// The health of the instance as the error shows it, for the circuit breaker.
    pub signal: Signal,
    /// Whether this server refused to ask, so that the error says nothing about Hypersender.
    pub is_own_refusal: bool,
    /// Whether a stored answer that is still usable is better than the error. It is not when the error says
    /// something about this contact, this request or this credential.
    pub yields_to_stored_answer: bool,
    /// Whether the error makes all stored answers of the scope unreachable, because its credential is not
    /// accepted any more.
    pub revokes_stored_answers: bool,
}

impl Handling {
    /// This server did not ask.
    const REFUSED: Self = Self {
        again: Again::No,
        cool_down: None,
        signal: Signal::None,
        is_own_refusal: true,
        yields_to_stored_answer: true,
        revokes_stored_answers: false,
    };
    /// Hypersender said something, even if it is "no" or "too many": for the breaker that is an answer.
    const SAID: Self = Self { signal: Signal::Success, is_own_refusal: false, ..Self::REFUSED };
    /// Hypersender failed to answer.
    const FAILED: Self =
        Self { signal: Signal::Failure, cool_down: Some(Reach::Key), is_own_refusal: false, ..Self::REFUSED };
}

impl LookupError {
    /// The reaction of the layers of the stack to this error. Each variant has a row here, and a new one must
    /// get one.
    #[must_use]
    pub fn handling(&self) -> Handling {
        match self {
            Self::NotCached
            | Self::RateLimited { .. }
            | Self::Overloaded
            | Self::CircuitOpen { .. }
            | Self::DeadlineExceeded => Handling::REFUSED,
            // A stored answer must not take the place of a turn: the look-up gets one later.
            Self::NoTurnYet { .. } => Handling { yields_to_stored_answer: false, ..Handling::REFUSED },
            // A block concerns this machine and no instance, and has a pause of its own.
            Self::Internal | Self::Blocked { .. } => Handling { is_own_refusal: false, ..Handling::REFUSED },
            Self::CredentialsRejected(_) => Handling {
                cool_down: Some(Reach::Scope),
                yields_to_stored_answer: false,
                revokes_stored_answers: true,
                ..Handling::SAID
            },
            Self::RequestRejected | Self::NotFound(_) => {
                Handling { yields_to_stored_answer: false, ..Handling::SAID }
            }
            Self::InstanceStarting => {
                Handling { again: Again::Yes, cool_down: Some(Reach::Scope), ..Handling::SAID }
            }
            Self::InstanceNotConnected => Handling { cool_down: Some(Reach::Scope), ..Handling::SAID },
            Self::UpstreamRateLimited { .. } => {
                Handling { again: Again::Yes, cool_down: Some(Reach::Key), ..Handling::SAID }
            }
            Self::Queued | Self::ResponseInvalid => {
                Handling { cool_down: Some(Reach::Key), ..Handling::SAID }
            }
            Self::Unavailable { again, .. } => Handling { again: *again, ..Handling::FAILED },
            Self::TimedOut { .. } => Handling { again: Again::Yes, ..Handling::FAILED },
            // A server that is replaced or that takes few requests on each connection is a healthy one.
            Self::SentAway => Handling { again: Again::Yes, signal: Signal::None, ..Handling::FAILED },
        }
    }

    /// The wait before another attempt for the same caller, in addition to the backoff. `None` when it is too
    /// long for a retry, so that the caller gets the error with the wait.
    #[must_use]
    pub fn wait_before_retry(&self) -> Option<Duration> {
        match self {
            Self::UpstreamRateLimited { retry_after } => {
                let wait = retry_after.unwrap_or(RATE_LIMIT_WAIT_UNKNOWN);
                (wait <= RATE_LIMIT_WAIT_MAX).then_some(wait)
            }
            Self::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or_default()),
            Self::NotCached
            | Self::RateLimited { .. }
            | Self::NoTurnYet { .. }
            | Self::Overloaded
            | Self::CircuitOpen { .. }
            | Self::DeadlineExceeded
            | Self::Internal
            | Self::CredentialsRejected(_)
            | Self::RequestRejected
            | Self::NotFound(_)
            | Self::InstanceStarting
            | Self::InstanceNotConnected
            | Self::SentAway
            | Self::Blocked { .. }
            | Self::TimedOut { .. }
            | Self::Queued
            | Self::ResponseInvalid => Some(Duration::ZERO),
        }
    }

    /// How long the caller should wait before its next call, where Hypersender or this server knows it.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait }
            | Self::NoTurnYet { wait }
            | Self::CircuitOpen { wait }
            | Self::Blocked { wait } => Some(*wait),
            Self::UpstreamRateLimited { retry_after }
            | Self::Unavailable { retry_after, .. }
            | Self::TimedOut { retry_after } => *retry_after,
            Self::Queued | Self::InstanceStarting => Some(SLOW_WAIT),
            Self::NotCached
            | Self::Overloaded
            | Self::DeadlineExceeded
            | Self::Internal
            | Self::CredentialsRejected(_)
            | Self::RequestRejected
            | Self::NotFound(_)
            | Self::InstanceNotConnected
            | Self::SentAway
            | Self::ResponseInvalid => None,
        }
    }

    /// The same error with another wait, if it is one of those that carry a hint.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        if let Self::UpstreamRateLimited { retry_after }
        | Self::Unavailable { retry_after, .. }
        | Self::TimedOut { retry_after } = &mut self
        {
            *retry_after = Some(wait);
        }
        self
    }

    /// For a fetch that this server gave up because it had no time, no turn or no permit: how soon the fetch
    /// could start again. `None` when it ended for another reason. A caller that joined such a fetch late may
    /// still have enough time.
    #[must_use]
    pub fn restart_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait } => Some(*wait),
            // The turn was missing for a batch, an avatar or a stream alone. A caller has a right to every
            // turn.
            Self::DeadlineExceeded | Self::Overloaded | Self::NoTurnYet { .. } => Some(Duration::ZERO),
            Self::NotCached
            | Self::CircuitOpen { .. }
            | Self::Internal
            | Self::CredentialsRejected(_)
            | Self::RequestRejected
            | Self::NotFound(_)
            | Self::InstanceStarting
            | Self::InstanceNotConnected
            | Self::UpstreamRateLimited { .. }
            | Self::Unavailable { .. }
            | Self::SentAway
            | Self::Blocked { .. }
            | Self::TimedOut { .. }
            | Self::Queued
            | Self::ResponseInvalid => None,
        }
    }
}
