//! [`Fault`]: a failed call, taken apart.

use std::time::Duration;

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
    /// Not at all.
    Never,
    /// Nothing.
    Unsaid,
}

impl From<&Status> for Fault {
    /// Also checks what holds for every failed call: it names a reason of ours, and both waits are the same number.
    fn from(status: &Status) -> Self {
        marks::assert_none_in(status);
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, "hypersender-grpc");
        assert!(info.metadata.is_empty(), "{info:?}");

        let trailer = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
        let pushback = match trailer {
            None => Pushback::Unsaid,
            Some("-1") => Pushback::Never,
            Some(number) => Pushback::Ms(number.parse().unwrap()),
        };
        let delay = details.retry_info().map(|info| info.retry_delay.unwrap());
        let expected = match pushback {
            Pushback::Ms(wait) => Some(Duration::from_millis(wait)),
            Pushback::Never | Pushback::Unsaid => None,
        };
        assert_eq!(delay, expected, "RetryInfo and trailer of {status:?}");

        let violations = details.bad_request().map(|request| request.field_violations.as_slice());
        let fields = violations.unwrap_or_default().iter().map(|violation| {
            assert!(!violation.description.is_empty(), "{violation:?}");
            violation.field.clone()
        });
        Self { code: status.code(), reason: info.reason.clone(), pushback, fields: fields.collect() }
    }
}
