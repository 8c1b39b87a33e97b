//! The caller's cache control, read from the contract.

use std::time::Duration;

use super::contact;
use crate::domain::{CacheControl, Refusal};

/// The longest duration of the contract, in seconds: 10,000 years, as google/protobuf/duration.proto says.
const SECONDS_MAX: u64 = 315_576_000_000;
const NANOS_MAX: u32 = 999_999_999;

/// The caller's cache control. A duration that the rules of its field forbid is refused, with the name of the
/// field.
pub fn cache_control(control: contact::CacheControl) -> Result<CacheControl, Refusal> {
    let read = |field, given: Option<prost_types::Duration>| {
        let read = given.map(|given| accepted(given).ok_or(Refusal::CacheControlInvalid { field }));
        read.transpose()
    };
    Ok(CacheControl {
        max_age: read("max_age", control.max_age)?,
        min_fresh: read("min_fresh", control.min_fresh)?,
        stale_if_error: read("stale_if_error", control.stale_if_error)?,
        only_if_cached: control.only_if_cached,
    })
}

/// The duration, unless it is negative or one of its parts is outside the bounds of the contract (rule 10).
/// The conversion of `prost_types` adds the parts up instead, and takes 1 s - 1 ns.
fn accepted(given: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(given.seconds).ok().filter(|seconds| *seconds <= SECONDS_MAX)?;
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos <= NANOS_MAX)?;
    Some(Duration::new(seconds, nanos))
}
