//! [`Fault`]: a failed call, taken apart.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::process::marks;

/// All that a status tells a caller.
#[derive(Debug)]
pub struct Fault {
    pub code: Code,
    pub reason: String,
    pub pushback: Pushback,
    /// Fields of the request that are at fault.
    pub fields: Vec<String>,
}

/// What the service says about calling again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pushback {
    /// After so many milliseconds.
    Ms(u64),
    /// Not within this call; another may be made after so many milliseconds.
    Later(u64),
    /// Not at all.
    Never,
    /// Nothing.
    Unsaid,
}

impl From<&Status> for Fault {
    /// Also checks what holds for every failed call: it names a reason of ours, and a wait in the trailer is
    /// that of the details.
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
