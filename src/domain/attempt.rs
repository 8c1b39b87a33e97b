//! [`AttemptError`]: why one attempt has no answer, and where that was said.

use super::{LookupError, Signal};

/// Why one attempt has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptError {
    /// The error of the look-up.
    pub error: LookupError,
    /// Whether Hypersender's API itself has said it. An answer that is not JSON, whatever its status, may
    /// come from the network in front of the API.
    pub is_from_api: bool,
}

impl AttemptError {
    /// The health of the API as the error shows it.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self.error.handling().signal {
            Signal::Success if !self.is_from_api => Signal::None,
            signal @ (Signal::Success | Signal::Failure | Signal::None) => signal,
        }
    }
}

/// An error that is an answer counts as one of the API.
impl From<LookupError> for AttemptError {
    fn from(error: LookupError) -> Self {
        let is_from_api = error.handling().signal == Signal::Success;
        Self { error, is_from_api }
    }
}
