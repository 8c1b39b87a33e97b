//! Which status a failed look-up has: the only place that chooses a code.
//!
//! Every error carries a `google.rpc.ErrorInfo`. One that is worth waiting for carries the wait as
//! `RetryInfo`, for people and libraries, and as `grpc-retry-pushback-ms` for gRPC's own retries (gRFC A6),
//! which take -1 as "do not". Those obey a wait that is longer than what is left of the call, and the caller
//! would read DEADLINE_EXCEEDED in place of the error: there the trailer says -1, while `RetryInfo` still
//! tells the wait to whoever makes another call.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::{CallEnd, LookupError, NotFound, Rejected};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "hypersender-grpc";

/// The code of an error response of reflection about a name that is not known. As a status it would end the
/// stream.
pub const NAME_UNKNOWN: i32 = Code::NotFound as i32;
/// The code of an error response of reflection to a request that asks for nothing that this server knows of.
pub const NOTHING_ASKED: i32 = Code::InvalidArgument as i32;

const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Not within this call.
const NEVER: &str = "-1";
/// The wait where nobody named one: about what a fault of a moment takes.
const WAIT_UNKNOWN: Duration = Duration::from_secs(1);

/// What a call must have left when it is repeated after the wait. No attempt at Hypersender starts with less
/// than 50 ms, an answer leaves up to 20 ms before the end, and the rest is for the network.
const REPEAT_TIME_MIN: Duration = Duration::from_millis(100);

/// The status a caller gets for `error`; `end` is when that caller stops waiting.
pub fn status(error: &LookupError, end: CallEnd) -> Status {
    let (code, reason) = code_and_reason(error);
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    if let Some((field, allowed)) = violation(error) {
        details.add_bad_request_violation(field, allowed);
    }
    let mut metadata = MetadataMap::new();
    if *error == LookupError::CompressionUnsupported {
        // So that the client stops it (the protocol's "Compression").
        metadata.insert("grpc-accept-encoding", MetadataValue::from_static("identity"));
    }
    match wait(error, code) {
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

fn code_and_reason(error: &LookupError) -> (Code, &'static str) {
    use LookupError as E;
    match error {
        E::InstanceMissing | E::InstanceInvalid => (Code::InvalidArgument, "INSTANCE_INVALID"),
        E::ChatIdInvalid => (Code::InvalidArgument, "CHAT_ID_INVALID"),
        E::CacheControlInvalid { .. } => (Code::InvalidArgument, "CACHE_CONTROL_INVALID"),
        // What gRPC's own servers say of a message that cannot be read, and the protocol of an encoding that is not known.
        E::MessageInvalid => (Code::Internal, "MESSAGE_INVALID"),
        E::CompressionUnsupported => (Code::Unimplemented, "COMPRESSION_UNSUPPORTED"),
        E::MessageTooLarge => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        E::MetadataTooLarge => (Code::ResourceExhausted, "METADATA_TOO_LARGE"),
        E::CallerUnknown(_) => (Code::Unauthenticated, "CALLER_UNKNOWN"),
        E::InstanceNotAllowed => (Code::PermissionDenied, "INSTANCE_NOT_ALLOWED"),
        E::InstanceNotConfigured => (Code::NotFound, "INSTANCE_NOT_CONFIGURED"),
        E::NotCached => (Code::FailedPrecondition, "NOT_CACHED"),
        // A quota is never UNAVAILABLE: clients and meshes retry that by themselves.
        E::RateLimited { .. } => (Code::ResourceExhausted, "RATE_LIMITED"),
        E::Overloaded => (Code::Unavailable, "OVERLOADED"),
        E::CircuitOpen { .. } => (Code::Unavailable, "UPSTREAM_CIRCUIT_OPEN"),
        E::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        E::Internal => (Code::Internal, "INTERNAL"),
        E::CredentialsRejected(rejected) => {
            let code = match rejected {
                // The caller can do nothing about the server's token.
                Rejected::Own => Code::FailedPrecondition,
                Rejected::Unknown => Code::Unauthenticated,
                Rejected::Forbidden => Code::PermissionDenied,
            };
            (code, "UPSTREAM_CREDENTIALS_REJECTED")
        }
        E::RequestRejected => (Code::InvalidArgument, "UPSTREAM_REJECTED_REQUEST"),
        E::NotFound(NotFound::Upstream) => (Code::NotFound, "UPSTREAM_NOT_FOUND"),
        E::NotFound(NotFound::NotOnWhatsApp) => (Code::NotFound, "NOT_ON_WHATSAPP"),
        E::InstanceStarting => (Code::Unavailable, "INSTANCE_STARTING"),
        E::InstanceNotConnected => (Code::FailedPrecondition, "INSTANCE_NOT_CONNECTED"),
        E::UpstreamRateLimited { .. } => (Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"),
        E::Unavailable { .. } => (Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        E::Blocked { .. } => (Code::Unavailable, "UPSTREAM_BLOCKED"),
        E::TimedOut { .. } => (Code::Unavailable, "UPSTREAM_TIMEOUT"),
        E::Queued => (Code::Unavailable, "UPSTREAM_QUEUED"),
        E::ResponseInvalid => (Code::Internal, "UPSTREAM_RESPONSE_INVALID"),
    }
}

/// The field of the request that is at fault, and what it may hold.
fn violation(error: &LookupError) -> Option<(String, String)> {
    let field = match error {
        LookupError::InstanceMissing | LookupError::InstanceInvalid => "instance".to_owned(),
        LookupError::ChatIdInvalid => "chat_id".to_owned(),
        LookupError::CacheControlInvalid { field } => format!("cache_control.{field}"),
        _ => return None,
    };
    Some((field, error.to_string()))
}

enum Wait {
    For(Duration),
    Never,
    /// Whether it is worth another call depends on why the time was too short, which only the caller knows.
    Unsaid,
}

fn wait(error: &LookupError, code: Code) -> Wait {
    match code {
        // Waiting makes nothing smaller.
        _ if matches!(error, LookupError::MessageTooLarge | LookupError::MetadataTooLarge) => Wait::Never,
        Code::Unavailable | Code::ResourceExhausted => Wait::For(error.retry_after().unwrap_or(WAIT_UNKNOWN)),
        Code::DeadlineExceeded => Wait::Unsaid,
        _ => Wait::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Again;

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_longer_than_what_is_left_of_the_call_is_for_another_call() {
        let ms = Duration::from_millis;
        let unavailable = |wait| LookupError::Unavailable { retry_after: Some(ms(wait)), again: Again::Yes };
        let unhinted = LookupError::Unavailable { retry_after: None, again: Again::Yes };
        for (stated, passed, error, trailer, retry_info) in [
            // What a call states counts, and none of this server's own limits.
            (None, 0, unavailable(120_000), Some("120000"), Some(120_000)),
            (None, 60_000, unavailable(120_000), Some("120000"), Some(120_000)),
            (Some(600_000), 0, unavailable(120_000), Some("120000"), Some(120_000)),
            (Some(5_000), 0, unavailable(120_000), Some("-1"), Some(120_000)),
            (Some(5_000), 0, unavailable(5_000), Some("-1"), Some(5_000)),
            (Some(5_000), 0, unavailable(1_000), Some("1000"), Some(1_000)),
            // What has passed of it is gone.
            (Some(5_000), 3_900, unavailable(1_000), Some("1000"), Some(1_000)),
            (Some(5_000), 3_901, unavailable(1_000), Some("-1"), Some(1_000)),
            (Some(5_000), 6_000, unavailable(1_000), Some("-1"), Some(1_000)),
            (Some(0), 0, unavailable(1), Some("-1"), Some(1)),
            (Some(u64::MAX), 0, unavailable(120_000), Some("120000"), Some(120_000)),
            // The same for each code that tells a wait, and wherever it comes from.
            (Some(1_000), 0, unhinted.clone(), Some("-1"), Some(1_000)),
            (Some(1_200), 0, unhinted, Some("1000"), Some(1_000)),
            (Some(500), 0, LookupError::RateLimited { wait: ms(700) }, Some("-1"), Some(700)),
            (Some(500), 0, LookupError::CircuitOpen { wait: ms(700) }, Some("-1"), Some(700)),
            (Some(500), 0, LookupError::Overloaded, Some("-1"), Some(1_000)),
            (Some(500), 0, LookupError::Queued, Some("-1"), Some(5_000)),
            // No wait is no wait, however much is left.
            (Some(500), 0, LookupError::MessageTooLarge, Some("-1"), None),
            (None, 0, LookupError::ChatIdInvalid, Some("-1"), None),
            (Some(500), 500, LookupError::DeadlineExceeded, None, None),
        ] {
            let row = format!("{stated:?} stated, {passed} passed, {error:?}");
            let end = CallEnd::of(Instant::now(), stated.map(ms));
            tokio::time::advance(ms(passed)).await;
            let status = status(&error, end);
            let told = status.metadata().get(PUSHBACK).map(|value| value.to_str().unwrap());
            assert_eq!(told, trailer, "{row}");
            let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
            assert_eq!(delay, retry_info.map(ms), "{row}");
        }
    }
}
