//! [`Fault`]: the parts of a failed call's status.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::marks;

/// The parts of a status that a caller acts on.
#[derive(Debug)]
pub struct Fault {
    pub code: Code,
    pub reason: String,
    pub pushback: Pushback,
    /// The fields of the request that are invalid.
    pub fields: Vec<String>,
}

/// The advice of the service about another attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pushback {
    /// The client may retry after this number of milliseconds.
    Ms(u64),
    /// The client must not retry this call. It may make another call after this number of milliseconds.
    Later(u64),
    /// The client must not retry.
    Never,
    /// The status contains no advice.
    Unsaid,
}

impl From<&Status> for Fault {
    /// Also checks the properties of every failed call: the reason is in this service's domain, and the
    /// trailer and the details contain the same delay.
    fn from(status: &Status) -> Self {
        marks::assert_none_in(status);
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, "hypersender-grpc");
        assert!(info.metadata.is_empty(), "{info:?}");

        let trailer = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
        let delay = details.retry_info().map(|info| info.retry_delay.unwrap());
        let delay = delay.map(|delay| u64::try_from(delay.as_millis()).unwrap());
        let pushback = match (trailer, delay) {
            (None, None) => Pushback::Unsaid,
            (Some("-1"), None) => Pushback::Never,
            (Some("-1"), Some(wait)) => Pushback::Later(wait),
            (Some(number), Some(wait)) if number == wait.to_string() => Pushback::Ms(wait),
            _ => panic!("RetryInfo and trailer of {status:?}"),
        };

        let violations = details.bad_request().map(|request| request.field_violations.as_slice());
        let fields = violations.unwrap_or_default().iter().map(|violation| {
            assert!(!violation.description.is_empty(), "{violation:?}");
            violation.field.clone()
        });
        Self { code: status.code(), reason: info.reason.clone(), pushback, fields: fields.collect() }
    }
}

/// The code and the reason of a call that is refused because of its caller.
pub type Refusal = (Code, String);

/// Returns the code and the reason of a refusal, and checks that it advises against a retry.
pub fn refusal(status: &Status) -> Refusal {
    let fault = Fault::from(status);
    assert!(matches!(fault.pushback, Pushback::Never | Pushback::Later(_)), "{status:?}");
    (fault.code, fault.reason)
}
