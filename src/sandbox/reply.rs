//! The parts of an answer: status, content type, link, and the headers of every answer. Bodies are text, not
//! serialised types, so that the order and spelling of keys stay the vendor's.
//!
//! Deliberately not here: which look-up gets which answer.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

/// Lifetime of a link, 9.87 days in seconds, which is that of real links from 2024 to 2026.
pub(super) const LINK_LIFE_SECONDS: i64 = 852_768;

pub(super) const UNAUTHENTICATED: &str = r#"{"message":"Unauthenticated."}"#;

/// Marks an answer that is not sent: the connection is closed instead.
#[derive(Clone)]
struct Cut;

/// The answer with a picture. Its link is new with each answer; the file in the link depends on `name` alone.
pub(super) fn picture(name: &str, life_seconds: i64) -> Response {
    with_link(&link(name, life_seconds))
}

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

/// A link in the form of WhatsApp's: the file is that of the picture, `oh` signs this link, and `oe` is its
/// expiry.
fn link(name: &str, life_seconds: i64) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = |digits: u32| {
        let mut hasher = DefaultHasher::new();
        (name, digits).hash(&mut hasher);
        hasher.finish() % 10_u64.pow(digits)
    };
    let file = format!("{:09}_{:015}_{:019}_n.jpg", number(9), number(15), number(19));
    let sign = |_| char::from(SIGNS[rand::random_range(0..SIGNS.len())]);
    let oh: String = (0..50).map(sign).collect();
    let oe = now_seconds().saturating_add(life_seconds).max(0);
    let cat = 100 + number(2) % 12;
    let query = format!("ccb=11-4&oh=01_{oh}&oe={oe:X}&_nc_sid=5e03e0&_nc_cat={cat}");
    format!("https://pps.whatsapp.net/v/t61.24694-24/{file}?{query}")
}

/// Wall-clock time, which `oe` and `X-RateLimit-Reset` are given in.
fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_its_file_and_renews_its_signature() {
        let [first, second, other] = ["a", "a", "b"].map(|name| link(name, 60));
        assert_ne!(first, second);
        assert_eq!(first.split('?').next(), second.split('?').next());
        assert_ne!(first.split('?').next(), other.split('?').next());
    }

    /// `ends`: when it should, give or take the minute this test may take.
    fn check_end(life_seconds: i64, ends: i64) {
        let link = link("a", life_seconds);
        let (_, rest) = link.split_once("&oe=").unwrap();
        let oe = i64::from_str_radix(rest.split('&').next().unwrap(), 16).unwrap();
        assert!(oe.abs_diff(ends) < 60, "{life_seconds}: {oe}");
    }

    #[test]
    fn a_link_ends_after_the_life_it_is_given() {
        let now = now_seconds();
        check_end(LINK_LIFE_SECONDS, now + LINK_LIFE_SECONDS);
        check_end(0, now);
        check_end(-3600, now - 3600);
        check_end(i64::MAX, i64::MAX);
        check_end(i64::MIN, 0);
    }

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
