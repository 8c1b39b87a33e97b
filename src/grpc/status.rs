//! Which status a failed look-up has: the only place that chooses a code.
//!
//! Every error carries a `google.rpc.ErrorInfo`. One that is worth waiting for carries the wait twice, from the same
//! number: as `RetryInfo` for people and libraries, and as `grpc-retry-pushback-ms` for gRPC's own retries (gRFC A6), which
//! take -1 as "do not".

use std::time::Duration;

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::{LookupError, NotFound, Rejected};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "hypersender-grpc";

const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The wait where nobody named one: about what a fault of a moment takes.
const WAIT_UNKNOWN: Duration = Duration::from_secs(1);

/// The status a caller gets for `error`.
pub fn status(error: &LookupError) -> Status {
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
            details.set_retry_info(Some(Duration::from_millis(milliseconds)));
            metadata.insert(PUSHBACK, MetadataValue::from(milliseconds));
        }
        Wait::Never => {
            metadata.insert(PUSHBACK, MetadataValue::from_static("-1"));
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
