//! [`Ended`]: how a stream of results ended, and whether another one may bring the missing results.
//!
//! The client packages decide in the same way.

use std::{error::Error, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::commands::reasons;

/// The trailer with the wait before the next call, in milliseconds; negative when there is to be none.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How a stream ended.
#[derive(Debug)]
pub enum Ended {
    /// With OK.
    Whole,
    /// Another stream may bring the missing results, after this wait if the service named one.
    Broken(Option<Duration>, Status),
    /// No message came, although the service sends one every 10 s. Its connection counts as dead.
    Silent,
    /// Another stream would end in the same way.
    Refused(Status),
    /// The receiver of the events is gone.
    Left,
}

impl Ended {
    /// A stream, or the call for one, that ended with an error.
    pub fn by(status: Status) -> Self {
        let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let pushback = pushback(&status);
        let may_pass = if wait.is_some() {
            true
        } else if reasons::of_call(&status).is_some() {
            status.code() == Code::DeadlineExceeded
        } else if let Some(pushback) = &pushback {
            pushback.is_ok()
        } else {
            // An error of this machine's own transport has a source, and can have any code.
            status.source().is_some() || is_of_path(status.code())
        };
        if may_pass {
            Self::Broken(wait.or(pushback.and_then(Result::ok)), status)
        } else {
            Self::Refused(status)
        }
    }
}

/// Whether proxies and broken connections end calls with this code. A stream that is reset, or that ends
/// without trailers, has one of them, too.
fn is_of_path(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Internal
            | Code::Unknown
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
    )
}

/// The trailer asks for no other call.
struct Forbidden;

/// The wait in the trailer, if there is a trailer. One that cannot be read forbids another call, too.
fn pushback(status: &Status) -> Option<Result<Duration, Forbidden>> {
    let text = status.metadata().get(PUSHBACK)?.to_str();
    let milliseconds = text.ok().and_then(|text| text.parse().ok());
    Some(milliseconds.map(Duration::from_millis).ok_or(Forbidden))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn is_broken(status: Status) -> bool {
        matches!(Ended::by(status), Ended::Broken(..))
    }

    #[test]
    fn an_error_that_is_not_of_the_service_may_pass_if_a_proxy_or_a_reset_has_its_code() {
        for (code, expected) in [
            (Code::Unavailable, true),
            (Code::Internal, true),
            (Code::Unknown, true),
            (Code::Cancelled, true),
            (Code::Aborted, true),
            (Code::ResourceExhausted, true),
            (Code::DeadlineExceeded, true),
            (Code::InvalidArgument, false),
            (Code::NotFound, false),
            (Code::Unauthenticated, false),
            (Code::PermissionDenied, false),
            (Code::FailedPrecondition, false),
            (Code::OutOfRange, false),
            (Code::Unimplemented, false),
        ] {
            assert_eq!(is_broken(Status::new(code, "x")), expected, "{code:?}");
            let foreign = ErrorDetails::with_error_info("LIMIT", "proxy.example.com", HashMap::new());
            assert_eq!(is_broken(Status::with_error_details(code, "x", foreign)), expected, "{code:?}");
        }
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_broken(Status::from_error(Box::new(lost))));
    }

    #[test]
    fn an_error_of_the_service_may_pass_if_it_names_a_wait() {
        for (code, wait, expected) in [
            (Code::Unavailable, Some(5), true),
            (Code::ResourceExhausted, Some(5), true),
            (Code::DeadlineExceeded, None, true),
            (Code::Internal, None, false),
            (Code::ResourceExhausted, None, false),
            (Code::FailedPrecondition, None, false),
        ] {
            let wait = wait.map(Duration::from_secs);
            let mut details = ErrorDetails::with_error_info("REASON", "hypersender-grpc", HashMap::new());
            if wait.is_some() {
                details.set_retry_info(wait);
            }
            match Ended::by(Status::with_error_details(code, "x", details)) {
                Ended::Broken(given, _) => assert!(expected && given == wait, "{code:?}"),
                ended => assert!(!expected, "{code:?}: {ended:?}"),
            }
        }
    }

    #[test]
    fn the_trailer_decides_when_there_are_no_details() {
        for (trailer, expected) in [
            ("250", Some(Duration::from_millis(250))),
            ("0", Some(Duration::ZERO)),
            ("-1", None),
            ("x", None),
        ] {
            let mut status = Status::unavailable("x");
            status.metadata_mut().insert(PUSHBACK, trailer.parse().unwrap());
            match Ended::by(status) {
                Ended::Broken(wait, _) => assert_eq!(wait, expected, "{trailer}"),
                ended => assert!(expected.is_none(), "{trailer}: {ended:?}"),
            }
        }
    }
}
