//! The parts of an answer: status, content type, and the headers of every answer. Bodies are text, not
//! serialised types, so that the order and spelling of keys stay the vendor's.
//!
//! Deliberately not here: which look-up gets which answer, and the links, which are in `pictures`.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

pub(super) const UNAUTHENTICATED: &str = r#"{"message":"Unauthenticated."}"#;

/// Marks an answer that is not sent: the connection is closed instead.
#[derive(Clone)]
struct Cut;

/// The answer with a link.
pub(super) fn with_link(link: &str) -> Response {
    let head = r#"{"message":"Profile picture retrieved successfully.","data":{"#;
    let body = format!(r#"{head}"profilePictureURL":"{link}"}}}}"#);
    json(StatusCode::OK, body)
}

/// An answer in the form that most failures of the API have.
pub(super) fn message(status: StatusCode, text: &str) -> Response {
    json(status, serde_json::json!({ "message": text }).to_string())
}

pub(super) fn rate_limited(retry_after_seconds: i64) -> Response {
    let reset = now_seconds() + retry_after_seconds;
    let mut answer = message(StatusCode::TOO_MANY_REQUESTS, "Too Many Attempts.");
    let headers = answer.headers_mut();
    headers.insert("retry-after", retry_after_seconds.into());
    headers.insert("x-ratelimit-limit", 60.into());
    headers.insert("x-ratelimit-remaining", 0.into());
    headers.insert("x-ratelimit-reset", reset.into());
    answer
}

pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    answer(status, "application/json", body.into())
}

pub(super) fn html(status: StatusCode) -> Response {
    let body = "<!DOCTYPE html>\n<html><body>No API here</body></html>\n";
    answer(status, "text/html; charset=utf-8", body.into())
}

/// No answer: the connection is closed.
pub(super) fn cut() -> Response {
    let mut answer = Response::default();
    answer.extensions_mut().insert(Cut);
    answer
}

pub(super) fn is_cut(answer: &Response) -> bool {
    answer.extensions().get::<Cut>().is_some()
}

/// A random UUID of version 4, for the header `s-request-id`.
pub(super) fn request_id() -> HeaderValue {
    let bits = rand::random::<u128>() & !(0xF << 76 | 0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    HeaderValue::try_from(parts.join("-")).expect("hex digits and hyphens may stand in a header")
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// Wall-clock time, which `oe` and `X-RateLimit-Reset` are given in.
pub(super) fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4_and_never_the_same() {
        let id = request_id();
        assert_ne!(id, request_id());
        let lengths: Vec<_> = id.to_str().unwrap().split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]));
    }
}
