//! The reasons of the contract, as far as `get` and `sync` decide by them.
//!
//! An error without a reason of the service is not the service's: a proxy or the transport made it.

use tonic::Status;
use tonic_types::{ErrorInfo, RpcStatusExt, StatusExt, pb};

/// The domain of the service's reasons.
const DOMAIN: &str = "hypersender-grpc";
/// The reasons that say something about the contact. Every other one says something about the service, its
/// limits or Hypersender.
const ABOUT_CONTACT: [&str; 4] =
    ["CHAT_ID_INVALID", "NOT_ON_WHATSAPP", "UPSTREAM_NOT_FOUND", "UPSTREAM_REJECTED_REQUEST"];
/// The reasons that concern every contact of a call: its caller, its instance or its form.
const ABOUT_CALL: [&str; 11] = [
    "CACHE_CONTROL_INVALID",
    "CALLER_UNKNOWN",
    "COMPRESSION_UNSUPPORTED",
    "INSTANCE_INVALID",
    "INSTANCE_NOT_ALLOWED",
    "INSTANCE_NOT_CONFIGURED",
    "INSTANCE_NOT_CONNECTED",
    "MESSAGE_INVALID",
    "MESSAGE_TOO_LARGE",
    "METADATA_TOO_LARGE",
    "UPSTREAM_CREDENTIALS_REJECTED",
];

/// The reason of a call that the service has failed.
pub fn of_call(status: &Status) -> Option<String> {
    ours(status.get_details_error_info())
}

/// The reason of the service for the error of one contact, if it says something about the contact. Another
/// look-up of the contact would meet it again.
pub fn about_contact(error: &pb::Status) -> Option<String> {
    let reason = ours(error.get_details_error_info())?;
    ABOUT_CONTACT.contains(&reason.as_str()).then_some(reason)
}

/// Whether the call for one contact failed because of the look-up of that contact. Otherwise the call was
/// refused or had no answer of the service, so that no contact could have been asked for.
pub fn is_of_look_up(status: &Status) -> bool {
    of_call(status).is_some_and(|reason| !ABOUT_CALL.contains(&reason.as_str()))
}

fn ours(info: Option<ErrorInfo>) -> Option<String> {
    info.filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    fn status(reason: &str, domain: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
        Status::with_error_details(Code::Internal, "x", details)
    }

    fn result(reason: &str, domain: &str) -> pb::Status {
        prost::Message::decode(status(reason, domain).details()).unwrap()
    }

    #[test]
    fn only_a_reason_about_the_contact_is_its_outcome() {
        for reason in ABOUT_CONTACT {
            assert_eq!(about_contact(&result(reason, DOMAIN)).as_deref(), Some(reason));
            assert_eq!(about_contact(&result(reason, "proxy.example.com")), None);
        }
        for reason in ["INTERNAL", "UPSTREAM_RESPONSE_INVALID", "NOT_CACHED", "NEW_REASON", ABOUT_CALL[0]] {
            assert_eq!(about_contact(&result(reason, DOMAIN)), None, "{reason}");
        }
        assert_eq!(about_contact(&pb::Status::default()), None);
    }

    #[test]
    fn a_call_that_is_refused_asks_for_no_contact() {
        for reason in ABOUT_CALL {
            assert!(!is_of_look_up(&status(reason, DOMAIN)), "{reason}");
        }
        for reason in ABOUT_CONTACT.into_iter().chain(["RATE_LIMITED", "INTERNAL", "NEW_REASON"]) {
            assert!(is_of_look_up(&status(reason, DOMAIN)), "{reason}");
            assert!(!is_of_look_up(&status(reason, "proxy.example.com")), "{reason}");
        }
        assert!(!is_of_look_up(&Status::unauthenticated("x")));
    }
}
