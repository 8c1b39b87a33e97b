//! The response for an outcome: status, headers and body (rules 62, 63 and 65).
//!
//! The text channel of an image is its headers: `Avatar-Status` says what is shown, and `Avatar-Error` says
//! why a request is refused, or why a caller with a token gets no picture. The statuses are chosen in
//! `status`.

mod pieces;

use std::time::Duration;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        ETAG, LOCATION, REFERRER_POLICY, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

use self::pieces::Pieces;
use super::{
    etag::{EntityTag, Seen, Tagger},
    initials::initials,
    pictures::Shown,
    query::{Fallback, Query},
    silhouette::{SVG, silhouette},
    status::{Keep, Missing, Refused},
};
use crate::telemetry::AvatarOutcome;

/// The longest time that a browser may keep an image without asking.
const KEEP_MAX: Duration = Duration::from_secs(60 * 60);
/// The header that tells programs what is shown.
const AVATAR_STATUS: HeaderName = HeaderName::from_static("avatar-status");
/// The header that says what is wrong.
const AVATAR_ERROR: HeaderName = HeaderName::from_static("avatar-error");

/// The headers of every response. They make sure that an image stays an image: nothing in it runs, and
/// nothing guesses another type for it.
const EVERYWHERE: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")),
    (CONTENT_DISPOSITION, HeaderValue::from_static("inline")),
];

/// The parts of the request that the response depends on.
pub struct Asked<'a> {
    /// The parameters.
    pub query: &'a Query,
    /// Whether the response has no body (HEAD).
    pub is_head: bool,
    /// The representations that the browser has.
    pub seen: &'a Seen,
    /// Whether the caller is known by a token. Such a response differs by token, and says why a look-up
    /// failed.
    pub is_known: bool,
    /// Makes the tags.
    pub tagger: &'a Tagger,
}

/// A response, and its outcome for the metrics.
pub type Answer = (Response, AvatarOutcome);

/// The response that shows `shown`. `contact` determines the colour of initials.
pub fn show(shown: Shown, contact: u64, asked: &Asked<'_>) -> Answer {
    match shown {
        Shown::Picture { bytes, tag, fresh_for, is_stale } => {
            let outcome = of_picture(is_stale);
            let found = Image { kind: "image/jpeg", bytes, tag };
            (image(found, outcome, Some(Keep::Fresh(fresh_for)), asked), outcome)
        }
        Shown::Unchanged { tag, fresh_for, is_stale } => {
            let outcome = of_picture(is_stale);
            (unchanged(&tag, outcome, Some(Keep::Fresh(fresh_for)), asked), outcome)
        }
        Shown::Link { link, fresh_for, is_stale } => {
            let location = HeaderValue::try_from(link.into_url());
            let mut location = location.expect("a link has neither line breaks nor control characters");
            location.set_sensitive(true);
            let outcome = of_picture(is_stale);
            // A link that is kept for longer than this time may expire in the browser.
            let mut response = empty(StatusCode::FOUND, Some(Keep::Only(fresh_for)), asked);
            response.headers_mut().insert(LOCATION, location);
            response.headers_mut().insert(AVATAR_STATUS, HeaderValue::from_static(outcome.name()));
            (response, outcome)
        }
        Shown::Absent { fresh_for } => missing(Missing::absent(fresh_for), contact, asked),
        Shown::NotYet | Shown::NoImage => missing(Missing::not_yet(), contact, asked),
        Shown::Failed(error) => {
            let (mut response, outcome) = missing(Missing::failed(&error), contact, asked);
            if asked.is_known {
                say(&error, &mut response);
            }
            (response, outcome)
        }
    }
}

/// The response to a request that is refused. It carries the silhouette, because browsers show an image with
/// any status.
pub fn refuse(refused: &Refused, asked: &Asked<'_>) -> Answer {
    let keep = match refused {
        // It is over for ever.
        Refused::Ended => HeaderValue::from_static("max-age=3600"),
        // An address that is unknown now may be known soon: keys reach one replica after the other.
        Refused::Unknown
        | Refused::Host
        | Refused::Method
        | Refused::Query(_)
        | Refused::Overloaded
        | Refused::Call(_) => cache_control(None),
    };
    let mut response = empty(refused.status(), None, asked);
    response.headers_mut().insert(CACHE_CONTROL, keep);
    if *refused == Refused::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if refused.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    say(refused, &mut response);
    if asked.query.fallback != Fallback::Status {
        fill(&mut response, SVG, silhouette(asked.query.size).into(), asked.is_head);
    }
    (response, AvatarOutcome::Refused)
}

/// An image with its tag.
struct Image {
    kind: &'static str,
    bytes: Bytes,
    tag: EntityTag,
}

/// The default image, or with `default=404` the status.
fn missing(missing: Missing, contact: u64, asked: &Asked<'_>) -> Answer {
    let Missing { status, outcome, keep, retry_after } = missing;
    let size = asked.query.size;
    let drawing = match &asked.query.fallback {
        Fallback::Silhouette => silhouette(size).into(),
        Fallback::Initials(name) => {
            initials(&name.0, contact, size).map_or_else(|| silhouette(size).into(), Bytes::from)
        }
        Fallback::Status => {
            let mut response = empty(status, keep, asked);
            let headers = response.headers_mut();
            headers.insert(AVATAR_STATUS, HeaderValue::from_static(outcome.name()));
            if let Some(wait) = retry_after {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(wait)));
            }
            return (response, outcome);
        }
    };
    let tag = asked.tagger.drawing(&drawing);
    (image(Image { kind: SVG, bytes: drawing, tag }, outcome, keep, asked), outcome)
}

/// The image with status 200, or 304 when the browser has it.
fn image(image: Image, outcome: AvatarOutcome, keep: Option<Keep>, asked: &Asked<'_>) -> Response {
    let Image { kind, bytes, tag } = image;
    let mut response = unchanged(&tag, outcome, keep, asked);
    if !asked.seen.has(&tag) {
        *response.status_mut() = StatusCode::OK;
        fill(&mut response, kind, bytes, asked.is_head);
    }
    response
}

/// Status 304, with the headers of the image.
fn unchanged(tag: &EntityTag, outcome: AvatarOutcome, keep: Option<Keep>, asked: &Asked<'_>) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED, keep, asked);
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.header().clone());
    headers.insert(AVATAR_STATUS, HeaderValue::from_static(outcome.name()));
    response
}

/// A response without a body, with the headers that every response has.
fn empty(status: StatusCode, keep: Option<Keep>, asked: &Asked<'_>) -> Response {
    let mut headers = HeaderMap::with_capacity(16);
    headers.extend(EVERYWHERE);
    headers.insert(CACHE_CONTROL, cache_control(keep));
    if asked.is_known {
        headers.insert(VARY, HeaderValue::from_static("authorization"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn fill(response: &mut Response, kind: &'static str, bytes: Bytes, is_head: bool) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    if !is_head {
        *response.body_mut() = Body::new(Pieces(bytes));
    }
}

/// Says in `Avatar-Error` what is wrong. The texts of refusals and errors are ASCII without line breaks.
fn say(why: &impl ToString, response: &mut Response) {
    if let Ok(text) = HeaderValue::try_from(why.to_string()) {
        response.headers_mut().insert(AVATAR_ERROR, text);
    }
}

/// The value of `Cache-Control`. No cache that is shared may keep an image by itself: who may see it is
/// decided by who has the address.
fn cache_control(keep: Option<Keep>) -> HeaderValue {
    let text = match keep {
        None => return HeaderValue::from_static("no-store"),
        Some(Keep::Fresh(time)) => {
            format!("private, max-age={}, stale-while-revalidate=900", time.min(KEEP_MAX).as_secs())
        }
        Some(Keep::Only(time)) => format!("private, max-age={}", time.min(KEEP_MAX).as_secs()),
    };
    HeaderValue::try_from(text).expect("digits and letters are a valid header value")
}

/// The wait in whole seconds, rounded up, so that no request comes too early.
fn seconds_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn of_picture(is_stale: bool) -> AvatarOutcome {
    if is_stale { AvatarOutcome::Stale } else { AvatarOutcome::Present }
}

#[cfg(test)]
mod tests;
