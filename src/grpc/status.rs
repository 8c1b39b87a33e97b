//! The status of a call that is refused or whose look-up fails. Only this file chooses status codes.
//!
//! Every status carries a `google.rpc.ErrorInfo`. If waiting makes sense, the wait is carried twice: as
//! `RetryInfo`, for people and libraries, and as `grpc-retry-pushback-ms`, for the retries of gRPC clients
//! themselves (gRFC A6). The value -1 of the trailer means "do not retry". Clients obey a trailer even if the
//! wait is longer than the time left for the call, and would then report DEADLINE_EXCEEDED in place of the
//! real error. In this case the trailer is -1, and `RetryInfo` still carries the wait for the next call.

use std::{fmt::Display, time::Duration};

use prost::Message;
use tokio::time::Instant;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::domain::{CallEnd, LookupError, NotFound, Refusal, Rejected};

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "hypersender-grpc";

/// The code in an error response of reflection for a name that is not known. A status would end the stream.
pub const NAME_UNKNOWN: i32 = Code::NotFound as i32;
/// The code in an error response of reflection for a request of an unknown kind.
pub const NOTHING_ASKED: i32 = Code::InvalidArgument as i32;

const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The value of the trailer that forbids a retry within the call.
const NEVER: &str = "-1";
/// The wait if no layer knows a better one: about the duration of a brief fault.
const WAIT_UNKNOWN: Duration = Duration::from_secs(1);
/// The wait of a stream that is one too many. Streams take minutes, so that a shorter wait would only cost
/// calls.
const STREAM_WAIT: Duration = Duration::from_secs(5);

/// The time that a call must have left after the wait, so that a retry makes sense. No attempt at Hypersender
/// starts with less than 50 ms, an answer is sent up to 20 ms before the end, and the rest is for the
/// network.
const REPEAT_TIME_MIN: Duration = Duration::from_millis(100);

/// An error that has a status: a [`Refusal`] or a [`LookupError`].
pub trait HasStatus: Display {
    /// The code, the `reason` of `ErrorInfo`, and whether the caller should wait.
    fn choose(&self) -> (Code, &'static str, Wait);

    /// The field of the request that is at fault, if there is one.
    fn field(&self) -> Option<String>;

    /// The encodings of messages that this server takes, if the encoding is at fault.
    fn encodings(&self) -> Option<&'static str>;
}

/// Whether the caller should wait and call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Call again after this time.
    For(Duration),
    /// The same call would fail again.
    Never,
    /// Neither is said: whether another call makes sense depends on why the time was too short, and only the
    /// caller knows that.
    Unsaid,
}

/// The status for `error`. `end` is the instant at which the caller stops waiting.
pub fn status(error: &impl HasStatus, end: CallEnd) -> Status {
    let (code, reason, wait) = error.choose();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    if let Some(field) = error.field() {
        details.add_bad_request_violation(field, error.to_string());
    }
    let mut metadata = MetadataMap::new();
    if let Some(encodings) = error.encodings() {
        // This header makes the client stop compressing ("Compression" in gRPC's protocol documents).
        metadata.insert("grpc-accept-encoding", MetadataValue::from_static(encodings));
    }
    match wait {
        Wait::For(wait) => {
            let milliseconds = wait.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX);
            let wait = Duration::from_millis(milliseconds);
            details.set_retry_info(Some(wait));
            let pushback = if end.allows(wait.saturating_add(REPEAT_TIME_MIN), Instant::now()) {
                MetadataValue::from(milliseconds)
            } else {
                MetadataValue::from_static(NEVER)
            };
            metadata.insert(PUSHBACK, pushback);
        }
        Wait::Never => {
            metadata.insert(PUSHBACK, MetadataValue::from_static(NEVER));
        }
        Wait::Unsaid => {}
    }
    Status::with_error_details_and_metadata(code, error.to_string(), details, metadata)
}

/// The same status as a message, for one result of many. It cannot carry the trailer.
pub fn rpc_status(error: &impl HasStatus) -> pb::Status {
    let status = status(error, CallEnd::UNSTATED);
    // tonic-types encodes the whole message as the details of the status.
    let message = pb::Status::decode(status.details());
    message.unwrap_or_else(|_| pb::Status { code: status.code().into(), ..Default::default() })
}

impl HasStatus for Refusal {
    fn choose(&self) -> (Code, &'static str, Wait) {
        use Refusal as R;
        use Wait::{For, Never, Unsaid};
        match self {
            R::InstanceMissing | R::InstanceInvalid => (Code::InvalidArgument, "INSTANCE_INVALID", Never),
            R::ChatIdInvalid => (Code::InvalidArgument, "CHAT_ID_INVALID", Never),
            R::CacheControlInvalid { .. } => (Code::InvalidArgument, "CACHE_CONTROL_INVALID", Never),
            // gRPC's own servers answer an unreadable message with INTERNAL. For an unknown encoding, the
            // protocol prescribes UNIMPLEMENTED.
            R::MessageInvalid => (Code::Internal, "MESSAGE_INVALID", Never),
            R::CompressionUnsupported => (Code::Unimplemented, "COMPRESSION_UNSUPPORTED", Never),
            // A message or metadata that is too large is still too large in a retry.
            R::MessageTooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE", Never),
            R::MetadataTooLarge => (Code::ResourceExhausted, "METADATA_TOO_LARGE", Never),
            R::BatchSizeInvalid { .. } => (Code::InvalidArgument, "BATCH_SIZE_INVALID", Never),
            // A quota is never UNAVAILABLE: clients and meshes retry that code by themselves.
            R::TooManyStreams(_) => (Code::ResourceExhausted, "TOO_MANY_STREAMS", For(STREAM_WAIT)),
            R::ServerStopping => (Code::Unavailable, "SERVER_STOPPING", For(WAIT_UNKNOWN)),
            R::CallerUnknown(_) => (Code::Unauthenticated, "CALLER_UNKNOWN", Never),
            R::InstanceNotAllowed => (Code::PermissionDenied, "INSTANCE_NOT_ALLOWED", Never),
            R::InstanceNotConfigured => (Code::NotFound, "INSTANCE_NOT_CONFIGURED", Never),
            R::Overloaded => (Code::Unavailable, "OVERLOADED", For(WAIT_UNKNOWN)),
            R::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", Unsaid),
            R::Internal => (Code::Internal, "INTERNAL", Never),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::InstanceMissing | Self::InstanceInvalid => Some("instance".to_owned()),
            Self::ChatIdInvalid => Some("chat_id".to_owned()),
            Self::CacheControlInvalid { field } => Some(format!("cache_control.{field}")),
            Self::BatchSizeInvalid { field, .. } => Some((*field).to_owned()),
            Self::MessageInvalid
            | Self::CompressionUnsupported
            | Self::MessageTooLarge { .. }
            | Self::MetadataTooLarge
            | Self::TooManyStreams(_)
            | Self::ServerStopping
            | Self::CallerUnknown(_)
            | Self::InstanceNotAllowed
            | Self::InstanceNotConfigured
            | Self::Overloaded
            | Self::DeadlineExceeded
            | Self::Internal => None,
        }
    }

    fn encodings(&self) -> Option<&'static str> {
        (*self == Self::CompressionUnsupported).then_some("identity")
    }
}

impl HasStatus for LookupError {
    fn choose(&self) -> (Code, &'static str, Wait) {
        use LookupError as E;
        use Wait::{Never, Unsaid};
        let later = Wait::For(self.retry_after().unwrap_or(WAIT_UNKNOWN));
        match self {
            E::NotCached => (Code::FailedPrecondition, "NOT_CACHED", Never),
            // A quota is never UNAVAILABLE: clients and meshes retry that code by themselves.
            E::RateLimited { .. } | E::NoTurnYet { .. } => (Code::ResourceExhausted, "RATE_LIMITED", later),
            E::Overloaded => (Code::Unavailable, "OVERLOADED", later),
            E::CircuitOpen { .. } => (Code::Unavailable, "UPSTREAM_CIRCUIT_OPEN", later),
            E::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", Unsaid),
            E::Internal => (Code::Internal, "INTERNAL", Never),
            E::CredentialsRejected(rejected) => {
                let code = match rejected {
                    // The caller cannot change the server's token.
                    Rejected::Own => Code::FailedPrecondition,
                    Rejected::Unknown => Code::Unauthenticated,
                    Rejected::Forbidden => Code::PermissionDenied,
                };
                (code, "UPSTREAM_CREDENTIALS_REJECTED", Never)
            }
            E::RequestRejected => (Code::InvalidArgument, "UPSTREAM_REJECTED_REQUEST", Never),
            E::NotFound(NotFound::Upstream) => (Code::NotFound, "UPSTREAM_NOT_FOUND", Never),
            E::NotFound(NotFound::NotOnWhatsApp) => (Code::NotFound, "NOT_ON_WHATSAPP", Never),
            E::InstanceStarting => (Code::Unavailable, "INSTANCE_STARTING", later),
            E::InstanceNotConnected => (Code::FailedPrecondition, "INSTANCE_NOT_CONNECTED", Never),
            E::UpstreamRateLimited { .. } => (Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED", later),
            E::Unavailable { .. } | E::SentAway => (Code::Unavailable, "UPSTREAM_UNAVAILABLE", later),
            E::Blocked { .. } => (Code::Unavailable, "UPSTREAM_BLOCKED", later),
            E::TimedOut { .. } => (Code::Unavailable, "UPSTREAM_TIMEOUT", later),
            E::Queued => (Code::Unavailable, "UPSTREAM_QUEUED", later),
            E::ResponseInvalid => (Code::Internal, "UPSTREAM_RESPONSE_INVALID", Never),
        }
    }

    fn field(&self) -> Option<String> {
        None
    }

    fn encodings(&self) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Again;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The wait in the trailer and in `RetryInfo`, for a call that states `stated` milliseconds, `passed` of
    /// them later.
    async fn check(
        (stated, passed): (Option<u64>, u64),
        error: impl HasStatus + std::fmt::Debug,
        (trailer, retry_info): (Option<&str>, Option<u64>),
    ) {
        let row = format!("{stated:?} stated, {passed} passed, {error:?}");
        let end = CallEnd::of(Instant::now(), stated.map(ms));
        tokio::time::advance(ms(passed)).await;
        let status = status(&error, end);
        let pushback = status.metadata().get(PUSHBACK).map(|value| value.to_str().unwrap());
        assert_eq!(pushback, trailer, "{row}");
        let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, retry_info.map(ms), "{row}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_longer_than_what_is_left_of_the_call_is_for_another_call() {
        let unavailable = |wait| LookupError::Unavailable { retry_after: Some(ms(wait)), again: Again::Yes };
        let unhinted = LookupError::Unavailable { retry_after: None, again: Again::Yes };
        for (stated, passed, error, trailer, retry_info) in [
            // The time that the call states counts, and no limit of this server's.
            (None, 0, unavailable(120_000), Some("120000"), Some(120_000)),
            (None, 60_000, unavailable(120_000), Some("120000"), Some(120_000)),
            (Some(600_000), 0, unavailable(120_000), Some("120000"), Some(120_000)),
            (Some(5_000), 0, unavailable(120_000), Some("-1"), Some(120_000)),
            (Some(5_000), 0, unavailable(5_000), Some("-1"), Some(5_000)),
            (Some(5_000), 0, unavailable(1_000), Some("1000"), Some(1_000)),
            // The time that has passed is gone.
            (Some(5_000), 3_900, unavailable(1_000), Some("1000"), Some(1_000)),
            (Some(5_000), 3_901, unavailable(1_000), Some("-1"), Some(1_000)),
            (Some(5_000), 6_000, unavailable(1_000), Some("-1"), Some(1_000)),
            (Some(0), 0, unavailable(1), Some("-1"), Some(1)),
            (Some(u64::MAX), 0, unavailable(120_000), Some("120000"), Some(120_000)),
            // The rule is the same for each code with a wait, wherever the wait comes from.
            (Some(1_000), 0, unhinted.clone(), Some("-1"), Some(1_000)),
            (Some(1_200), 0, unhinted, Some("1000"), Some(1_000)),
            (Some(500), 0, LookupError::RateLimited { wait: ms(700) }, Some("-1"), Some(700)),
            (Some(500), 0, LookupError::CircuitOpen { wait: ms(700) }, Some("-1"), Some(700)),
            (Some(500), 0, LookupError::Overloaded, Some("-1"), Some(1_000)),
            (Some(500), 0, LookupError::Queued, Some("-1"), Some(5_000)),
            (Some(500), 500, LookupError::DeadlineExceeded, None, None),
        ] {
            check((stated, passed), error, (trailer, retry_info)).await;
        }
        for (stated, passed, refusal, trailer, retry_info) in [
            (Some(500), 0, Refusal::Overloaded, Some("-1"), Some(1_000)),
            // A refusal without a wait has none, however much time is left.
            (Some(500), 0, Refusal::MessageTooLarge { bytes_max: 16 * 1024 }, Some("-1"), None),
            (None, 0, Refusal::ChatIdInvalid, Some("-1"), None),
            (Some(500), 500, Refusal::DeadlineExceeded, None, None),
        ] {
            check((stated, passed), refusal, (trailer, retry_info)).await;
        }
    }
}
