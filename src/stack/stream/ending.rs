//! [`Ending`]: the meaning of a failed look-up for its stream (rule 40).

use crate::domain::LookupError;

/// The consequence of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The error is the result of the contact.
    Result,
    /// No further contact could be looked up, so the stream ends with the error.
    EndsStream,
    /// The turn was gone. The contact is the next one again.
    NoTurn,
    /// This server asked nothing. The contact waits again, and the refusal does not count.
    Refused,
    /// The same, and the server is at a limit, so the stream waits a little.
    Overloaded,
    /// The contact waits, as it does for a cool-down.
    CoolsDown,
    /// Hypersender failed. The contact gets one more chance.
    Failed,
}

impl Ending {
    /// The consequence of `error`. `has_time` says whether the stream itself has time left.
    pub fn of(error: &LookupError, has_time: bool) -> Self {
        match error {
            LookupError::NoTurnYet { .. } => Self::NoTurn,
            LookupError::RateLimited { .. }
            | LookupError::CircuitOpen { .. }
            | LookupError::Blocked { .. } => Self::Refused,
            LookupError::Overloaded => Self::Overloaded,
            // A flight that gets no permit gives up long before the stream ends.
            LookupError::DeadlineExceeded if has_time => Self::Overloaded,
            LookupError::CredentialsRejected(_)
            | LookupError::InstanceNotConnected
            | LookupError::DeadlineExceeded => Self::EndsStream,
            LookupError::InstanceStarting | LookupError::Queued => Self::CoolsDown,
            LookupError::UpstreamRateLimited { .. }
            | LookupError::Unavailable { .. }
            | LookupError::TimedOut { .. }
            | LookupError::SentAway => Self::Failed,
            LookupError::NotCached
            | LookupError::Internal
            | LookupError::RequestRejected
            | LookupError::NotFound(_)
            | LookupError::ResponseInvalid => Self::Result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_ends_before_its_stream_has_not_used_up_the_time() {
        let error = LookupError::DeadlineExceeded;
        assert_eq!(Ending::of(&error, true), Ending::Overloaded);
        assert_eq!(Ending::of(&error, false), Ending::EndsStream);
    }
}
