//! The HTTP status of a request that is refused, or for which there is no picture. Only this file chooses
//! them.
//!
//! A request that is refused gets an error status. A request whose look-up fails gets a default image with
//! status 200, because a page wants to show something; only with `default=404` does the status tell programs
//! what happened (rule 62).

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use super::{query::BadQuery, sealed::Unopened};
use crate::{
    domain::{LookupError, Refusal},
    telemetry::AvatarOutcome,
};

/// The wait until an image may be there, and until a failure may have passed, if no layer knows a better one.
pub const WAIT: Duration = Duration::from_secs(15);

/// Why a request is refused. `Display` is the text in `Avatar-Error`; it holds no part of the address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The address is not one that is served. For a sealed address, the reason is not said (rule 67).
    #[error("there is no such address")]
    Unknown,
    /// The life of the sealed address is over.
    #[error("the life of this address is over; get the present one from the service")]
    Ended,
    /// The request does not say for which host it is, or says it twice.
    #[error("the request must name one host, in Host or in :authority")]
    Host,
    /// The method is neither GET nor HEAD.
    #[error("the method must be GET or HEAD")]
    Method,
    /// A parameter is not valid.
    #[error("{0}")]
    Query(#[from] BadQuery),
    /// Too many requests are in progress.
    #[error("the server is working at its limit")]
    Overloaded,
    /// The reason is one that a gRPC call would be refused for, too.
    #[error("{0}")]
    Call(#[from] Refusal),
}

impl From<Unopened> for Refused {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Unknown => Self::Unknown,
            Unopened::Ended => Self::Ended,
        }
    }
}

impl Refused {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Ended => StatusCode::GONE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host
            | Self::Query(BadQuery::TooLong | BadQuery::Size | BadQuery::Default | BadQuery::Name) => {
                StatusCode::BAD_REQUEST
            }
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Call(refusal) => of_refusal(refusal),
        }
    }
}

fn of_refusal(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::CallerUnknown(_) => StatusCode::UNAUTHORIZED,
        Refusal::InstanceNotAllowed => StatusCode::FORBIDDEN,
        Refusal::InstanceNotConfigured => StatusCode::NOT_FOUND,
        Refusal::InstanceMissing
        | Refusal::InstanceInvalid
        | Refusal::ChatIdInvalid
        // The rest of these concern messages of gRPC, which a request for an image does not have.
        | Refusal::CacheControlInvalid { .. }
        | Refusal::MessageInvalid
        | Refusal::CompressionUnsupported
        | Refusal::MessageTooLarge { .. }
        | Refusal::MetadataTooLarge
        | Refusal::BatchSizeInvalid { .. } => StatusCode::BAD_REQUEST,
        Refusal::TooManyStreams(_)
        | Refusal::ServerStopping
        | Refusal::Overloaded
        | Refusal::DeadlineExceeded
        | Refusal::Internal => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// How it is answered that there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The status with `default=404`.
    pub status: StatusCode,
    /// The outcome in `Avatar-Status`.
    pub outcome: AvatarOutcome,
    /// How long the answer may be kept; `None` when it must not be.
    pub keep: Option<Keep>,
    /// The wait after which another request makes sense, for the statuses that say one.
    pub retry_after: Option<Duration>,
}

/// How long an answer may be kept by a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// This time, and after it while a new answer is fetched.
    Fresh(Duration),
    /// This time, and no longer.
    Only(Duration),
}

impl Missing {
    /// The contact has no picture.
    #[must_use]
    pub fn absent(fresh_for: Duration) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            outcome: AvatarOutcome::Absent,
            keep: Some(Keep::Fresh(fresh_for)),
            retry_after: None,
        }
    }

    /// The image is not here, and may be here soon. It is kept for as long as a failed download is, so that a
    /// page does not ask for it all the time.
    #[must_use]
    pub fn not_yet() -> Self {
        Self { keep: Some(Keep::Only(WAIT)), ..Self::unavailable(WAIT) }
    }

    /// The look-up failed with `error`.
    #[must_use]
    pub fn failed(error: &LookupError) -> Self {
        let later = Self::unavailable(error.retry_after().unwrap_or(WAIT));
        let gone = Self { status: StatusCode::NOT_FOUND, retry_after: None, ..later };
        match error {
            // A number that is not on WhatsApp is no failure: it has no picture.
            LookupError::NotFound(_) | LookupError::RequestRejected => gone,
            LookupError::RateLimited { .. }
            | LookupError::NoTurnYet { .. }
            | LookupError::UpstreamRateLimited { .. } => {
                Self { status: StatusCode::TOO_MANY_REQUESTS, ..later }
            }
            LookupError::NotCached
            | LookupError::Overloaded
            | LookupError::CircuitOpen { .. }
            | LookupError::DeadlineExceeded
            | LookupError::Internal
            | LookupError::CredentialsRejected(_)
            | LookupError::InstanceStarting
            | LookupError::InstanceNotConnected
            | LookupError::Unavailable { .. }
            | LookupError::SentAway
            | LookupError::Blocked { .. }
            | LookupError::TimedOut { .. }
            | LookupError::Queued
            | LookupError::ResponseInvalid => later,
        }
    }

    fn unavailable(wait: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            outcome: AvatarOutcome::Unavailable,
            keep: None,
            retry_after: Some(wait),
        }
    }
}
