//! Hypersender's answers in JSON: the meaning of each status and body.
//!
//! An answer is read strictly where it decides the result, and leniently elsewhere: message texts vary and
//! are never read, and the values inside `errors` have mixed types. No text of Hypersender's leaves this
//! file, because it may hold personal data.

use std::time::{Duration, SystemTime};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde_json::{Map, Value};

use crate::domain::{
    Absence, Again, AttemptError, Finding, LookupError, NotFound, PictureLink, Rejected, TokenOwner,
};

/// A complete answer that is not interpreted yet.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `None` when the body is longer than an answer can be.
    pub body: Option<Vec<u8>>,
}

/// Hypersender's id of a request, which is logged for its support.
const REQUEST_ID: &str = "s-request-id";
const REQUEST_ID_CHARS_MAX: usize = 64;
/// Headers by which CDNs mark an answer, with any status, as a challenge for suspected robots: Cloudflare's
/// "Detect a Challenge Page response", and the actions of AWS WAF.
const CHALLENGES: [(&str, &[&str]); 2] =
    [("cf-mitigated", &["challenge"]), ("x-amzn-waf-action", &["challenge", "captcha"])];

type Object = Map<String, Value>;

/// The meaning of the answer to a request with a token of `owner`. `now` is the wall clock, for the expiry of
/// links and for hints that are dates. Hints are cut to `hint_max`.
///
/// # Errors
///
/// Every result other than a picture, an absent picture and a missing contact.
pub fn read(
    reply: &Reply,
    owner: TokenOwner,
    now: SystemTime,
    hint_max: Duration,
) -> Result<Finding, AttemptError> {
    let json: Option<Object> = reply.body.as_deref().and_then(|body| serde_json::from_slice(body).ok());
    // Hypersender itself answers in JSON. An HTML page comes from a CDN in front of it.
    let is_from_api = json.is_some();
    meaning(reply, json, owner, now, hint_max).map_err(|error| AttemptError { error, is_from_api })
}

fn meaning(
    reply: &Reply,
    json: Option<Object>,
    owner: TokenOwner,
    now: SystemTime,
    hint_max: Duration,
) -> Result<Finding, LookupError> {
    // A hint is cut before any arithmetic with clocks. A wait of zero counts as no hint.
    let hint = |wait: Option<Duration>| wait.map(|wait| wait.min(hint_max)).filter(|wait| !wait.is_zero());
    if is_challenge(&reply.headers) {
        let wait = hint(retry_after(&reply.headers, now)).unwrap_or_default();
        return Err(LookupError::Blocked { wait });
    }
    match (reply.status.as_u16(), json) {
        (200 | 202, Some(body)) if body.get("queued") == Some(&Value::Bool(true)) => Err(LookupError::Queued),
        (200, Some(body)) => picture(&body, now),
        (401, _) | (403, Some(_)) if owner == TokenOwner::Server => Err(rejected(Rejected::Own)),
        (401, _) => Err(rejected(Rejected::Unknown)),
        (403, Some(_)) => Err(rejected(Rejected::Forbidden)),
        (403, None) => {
            Err(LookupError::Blocked { wait: hint(retry_after(&reply.headers, now)).unwrap_or_default() })
        }
        (400, _) => Err(LookupError::RequestRejected),
        (404, Some(_)) => Ok(Finding::NotFound(NotFound::Upstream)),
        (422, Some(body)) => unprocessable(&body),
        (429, _) => Err(LookupError::UpstreamRateLimited {
            retry_after: hint(
                retry_after(&reply.headers, now).or_else(|| rate_limit_reset(&reply.headers, now)),
            ),
        }),
        (500, _) => Err(unavailable(None, Again::Once)),
        (503, _) => Err(unavailable(hint(retry_after(&reply.headers, now)), Again::Yes)),
        // A proxy asks for a user or password that the configuration does not have. Only the operator can
        // correct that.
        (407, _) => Err(unavailable(None, Again::No)),
        (408 | 425 | 502 | 504..=599, _) => Err(unavailable(None, Again::Yes)),
        _ => Err(LookupError::ResponseInvalid),
    }
}

fn is_challenge(headers: &HeaderMap) -> bool {
    CHALLENGES.iter().any(|(name, actions)| {
        let said = headers.get(*name).and_then(|value| value.to_str().ok()).map(str::trim);
        said.is_some_and(|said| actions.iter().any(|action| said.eq_ignore_ascii_case(action)))
    })
}

/// Hypersender's id of the request, if it may be logged.
pub fn request_id(headers: &HeaderMap) -> Option<&str> {
    let fit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| id.len() <= REQUEST_ID_CHARS_MAX && id.bytes().all(fit))
}

fn rejected(rejected: Rejected) -> LookupError {
    LookupError::CredentialsRejected(rejected)
}

fn unavailable(retry_after: Option<Duration>, again: Again) -> LookupError {
    LookupError::Unavailable { retry_after, again }
}

fn picture(body: &Object, now: SystemTime) -> Result<Finding, LookupError> {
    let data = body.get("data").and_then(Value::as_object);
    match data.and_then(|data| data.get("profilePictureURL")) {
        Some(Value::Null) => Ok(Finding::Absent(Absence::Null)),
        Some(Value::String(url)) if url.is_empty() => Ok(Finding::Absent(Absence::Null)),
        Some(Value::String(url)) => {
            PictureLink::parse(url, now).map(Finding::Picture).map_err(|_| LookupError::ResponseInvalid)
        }
        _ => Err(LookupError::ResponseInvalid),
    }
}

/// 422 has three meanings: a number without WhatsApp, rejected fields, and an instance that is not connected.
fn unprocessable(body: &Object) -> Result<Finding, LookupError> {
    let errors = body.get("errors").and_then(Value::as_object);
    if errors.and_then(|errors| errors.get("exists")) == Some(&Value::Bool(false)) {
        return Ok(Finding::NotFound(NotFound::NotOnWhatsApp));
    }
    if errors.is_some_and(|errors| !errors.is_empty()) {
        return Err(LookupError::RequestRejected);
    }
    let state = body.get("status").and_then(Value::as_str);
    let of_session = body.contains_key("session") || body.contains_key("expected");
    match state {
        Some("STARTING") if of_session => Err(LookupError::InstanceStarting),
        Some(_) if of_session => Err(LookupError::InstanceNotConnected),
        _ => Err(LookupError::ResponseInvalid),
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3). A value that is unreadable or in the past is no
/// hint.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match seconds(text) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

/// `X-RateLimit-Reset` in Unix seconds, as Laravel's throttling sends it.
fn rate_limit_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let reset = seconds(headers.get("x-ratelimit-reset")?.to_str().ok()?.trim())?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Duration::from_secs(reset).checked_sub(now)
}

/// Whole seconds. A number that is too large becomes the largest.
fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of an answer, and whether it is that of the API.
    fn check(status: u16, body: &str) -> (LookupError, bool) {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), Some(body.into()));
        let reply = Reply { status, headers: HeaderMap::new(), body };
        let AttemptError { error, is_from_api } =
            read(&reply, TokenOwner::Server, SystemTime::UNIX_EPOCH, Duration::MAX).unwrap_err();
        (error, is_from_api)
    }

    #[test]
    fn an_answer_without_json_is_not_one_of_the_api() {
        for status in [200, 204, 302, 400, 401, 404, 405, 422, 429, 500, 501, 503] {
            for page in ["<!doctype html><h1>Error 1015</h1>", "", "null", "{"] {
                assert!(!check(status, page).1, "{status} {page}");
            }
        }
        for status in [200, 302, 400, 401, 405, 422, 429, 500, 501, 503] {
            assert!(check(status, r#"{"message":"no"}"#).1, "{status}");
        }
        let limited = LookupError::UpstreamRateLimited { retry_after: None };
        assert_eq!(check(429, "<html>"), (limited.clone(), false), "the meaning is the same");
        assert_eq!(check(429, "{}"), (limited, true));
    }
}
