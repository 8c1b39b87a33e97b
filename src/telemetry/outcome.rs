//! [`Outcome`]: the result of one request to Hypersender, as metrics and traces name it.

use crate::domain::{Finding, LookupError};

/// The result of one attempt. The set is closed, because each value is the value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Hypersender gave a link to a picture.
    Picture,
    /// There is no picture to show.
    Absent,
    /// There is no such contact.
    NotFound,
    /// Hypersender rejects the token.
    CredentialsRejected,
    /// Hypersender rejects the request.
    RequestRejected,
    /// The instance is being started.
    InstanceStarting,
    /// The instance is not logged in to WhatsApp.
    InstanceNotConnected,
    /// Hypersender's rate limit is reached.
    RateLimited,
    /// Hypersender failed or cannot be reached.
    Unavailable,
    /// A CDN in front of Hypersender blocks this machine.
    Blocked,
    /// Hypersender did not answer in time.
    TimedOut,
    /// Hypersender queued the request.
    Queued,
    /// The answer cannot be understood.
    ResponseInvalid,
    /// The attempt was given up before there was an answer. It stays the last outcome, because `ALL` takes
    /// its length from it.
    Abandoned,
}

impl Outcome {
    /// All of them, in the order of their declaration, so that `outcome as usize` is an index.
    pub(super) const ALL: [Self; Self::Abandoned as usize + 1] = [
        Self::Picture,
        Self::Absent,
        Self::NotFound,
        Self::CredentialsRejected,
        Self::RequestRejected,
        Self::InstanceStarting,
        Self::InstanceNotConnected,
        Self::RateLimited,
        Self::Unavailable,
        Self::Blocked,
        Self::TimedOut,
        Self::Queued,
        Self::ResponseInvalid,
        Self::Abandoned,
    ];

    /// The outcome of an attempt that ended with `result`.
    #[must_use]
    pub fn of(result: &Result<Finding, LookupError>) -> Self {
        use LookupError as E;
        match result {
            Ok(Finding::Picture(_)) => Self::Picture,
            Ok(Finding::Absent(_)) => Self::Absent,
            Ok(Finding::NotFound(_)) | Err(E::NotFound(_)) => Self::NotFound,
            Err(E::CredentialsRejected(_)) => Self::CredentialsRejected,
            Err(E::RequestRejected) => Self::RequestRejected,
            Err(E::InstanceStarting) => Self::InstanceStarting,
            Err(E::InstanceNotConnected) => Self::InstanceNotConnected,
            Err(E::UpstreamRateLimited { .. }) => Self::RateLimited,
            Err(E::Unavailable { .. } | E::SentAway) => Self::Unavailable,
            Err(E::Blocked { .. }) => Self::Blocked,
            Err(E::TimedOut { .. }) => Self::TimedOut,
            Err(E::Queued) => Self::Queued,
            Err(E::ResponseInvalid) => Self::ResponseInvalid,
            // An attempt never ends like this: these errors are found before anything is sent.
            Err(
                E::NotCached
                | E::RateLimited { .. }
                | E::NoTurnYet { .. }
                | E::Overloaded
                | E::CircuitOpen { .. }
                | E::DeadlineExceeded
                | E::Internal,
            ) => Self::Abandoned,
        }
    }

    /// The value of the label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Absent => "absent",
            Self::NotFound => "not_found",
            Self::CredentialsRejected => "credentials_rejected",
            Self::RequestRejected => "request_rejected",
            Self::InstanceStarting => "instance_starting",
            Self::InstanceNotConnected => "instance_not_connected",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Blocked => "blocked",
            Self::TimedOut => "timed_out",
            Self::Queued => "queued",
            Self::ResponseInvalid => "response_invalid",
            Self::Abandoned => "abandoned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_an_index() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{outcome:?}");
        }
    }
}
