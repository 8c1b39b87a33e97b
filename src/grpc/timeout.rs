//! `grpc-timeout`: how long a call may take, as its caller states it.

use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::time::Instant;

use crate::domain::{CallEnd, CallTime};

/// When the caller of a request stops waiting. This is noted when a call comes in. Without such a note, the
/// time-out is counted from now.
#[must_use]
pub fn call_end(headers: &HeaderMap, extensions: &Extensions) -> CallEnd {
    let noted = extensions.get::<CallTime>().map(|time| time.end);
    noted.unwrap_or_else(|| CallEnd::of(Instant::now(), grpc_timeout(headers)))
}

/// The value of `grpc-timeout`: 1 to 8 digits and a unit. An unreadable one counts as none.
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("250u", Some(Duration::from_micros(250))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("1", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1s", None),
            ("1 S", None),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                http::HeaderValue::from_static(text),
            )]);
            assert_eq!(grpc_timeout(&headers), expected, "{text:?}");
        }
    }
}
