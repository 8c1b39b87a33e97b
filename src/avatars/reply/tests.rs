use std::time::SystemTime;

use http_body_util::BodyExt;

use super::*;
use crate::{
    avatars::{image::Size, query::BadQuery},
    domain::{LookupError as E, NotFound, PictureLink, Refusal, Rejected, Unknown},
    telemetry::{Metrics, MetricsForm},
};

const FRESH: Duration = Duration::from_secs(100);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn tagger() -> Tagger {
    Tagger::new([7; 16])
}

fn picture(fresh_for: Duration, is_stale: bool) -> Shown {
    let tag = tagger().picture("F", Size::S96);
    Shown::Picture { bytes: Bytes::from_static(b"jpeg"), tag, fresh_for, is_stale }
}

fn link(fresh_for: Duration) -> Shown {
    let link = PictureLink::parse("https://pps.example/1?oe=2", SystemTime::UNIX_EPOCH).unwrap();
    Shown::Link { link, fresh_for, is_stale: false }
}

fn rate_limited() -> Shown {
    Shown::Failed(E::RateLimited { wait: Duration::from_millis(2_100) })
}

/// The answer for `shown` with a query, without headers of the browser.
fn shown(shown: Shown, query: &str) -> Answer {
    let query = Query::parse(Some(query)).unwrap();
    let seen = Seen::default();
    let tagger = tagger();
    show(shown, 3, &Asked { query: &query, is_head: false, seen: &seen, is_known: false, tagger: &tagger })
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("-", |value| value.to_str().unwrap())
}

/// The status and the headers of an answer, in one line.
fn line((response, outcome): &Answer) -> String {
    let [kind, status, cache, retry] =
        ["content-type", "avatar-status", "cache-control", "retry-after"].map(|name| header(response, name));
    if *outcome != AvatarOutcome::Refused {
        assert_eq!(status, outcome.name());
    }
    format!("{} {kind} {status} [{cache}] {retry}", response.status().as_u16())
}

#[test]
fn each_outcome_has_its_status_and_its_time() {
    let absent = || Shown::Absent { fresh_for: FRESH };
    let down = || Shown::Failed(E::CredentialsRejected(Rejected::Own));
    let fresh = "[private, max-age=100, stale-while-revalidate=900]";
    for (outcome, query, expected) in [
        (picture(FRESH, false), "", format!("200 image/jpeg present {fresh} -")),
        (picture(FRESH, false), "default=404", format!("200 image/jpeg present {fresh} -")),
        (
            picture(DAY, false),
            "",
            "200 image/jpeg present [private, max-age=3600, stale-while-revalidate=900] -".to_owned(),
        ),
        (
            picture(Duration::ZERO, true),
            "",
            "200 image/jpeg stale [private, max-age=0, stale-while-revalidate=900] -".to_owned(),
        ),
        // A link must not be used after its time, so that it is never kept for longer.
        (link(FRESH), "", "302 - present [private, max-age=100] -".to_owned()),
        (absent(), "", format!("200 image/svg+xml absent {fresh} -")),
        (absent(), "default=404", format!("404 - absent {fresh} -")),
        (Shown::NotYet, "", "200 image/svg+xml unavailable [private, max-age=15] -".to_owned()),
        (Shown::NotYet, "default=404", "503 - unavailable [private, max-age=15] 15".to_owned()),
        (Shown::NoImage, "", "200 image/svg+xml unavailable [private, max-age=15] -".to_owned()),
        (rate_limited(), "", "200 image/svg+xml unavailable [no-store] -".to_owned()),
        (rate_limited(), "default=404", "429 - unavailable [no-store] 3".to_owned()),
        (
            Shown::Failed(E::UpstreamRateLimited { retry_after: None }),
            "default=404",
            "429 - unavailable [no-store] 15".to_owned(),
        ),
        (Shown::Failed(E::RequestRejected), "default=404", "404 - unavailable [no-store] -".to_owned()),
        (down(), "default=initials&name=A", "200 image/svg+xml unavailable [no-store] -".to_owned()),
        (down(), "default=404", "503 - unavailable [no-store] 15".to_owned()),
        (
            Shown::Failed(E::NotFound(NotFound::Upstream)),
            "",
            "200 image/svg+xml unavailable [no-store] -".to_owned(),
        ),
        (
            Shown::Failed(E::NotFound(NotFound::Upstream)),
            "default=404",
            "404 - unavailable [no-store] -".to_owned(),
        ),
    ] {
        let row = format!("{outcome:?}, {query:?}");
        assert_eq!(line(&shown(outcome, query)), expected, "{row}");
    }
}

#[test]
fn each_refusal_has_its_status_and_says_what_is_wrong() {
    let tagger = tagger();
    for (refused, expected) in [
        (Refused::Unknown, "404 image/svg+xml - [no-store] -"),
        (Refused::Ended, "410 image/svg+xml - [max-age=3600] -"),
        (Refused::Method, "405 image/svg+xml - [no-store] -"),
        (Refused::Query(BadQuery::Size), "400 image/svg+xml - [no-store] -"),
        (Refused::Overloaded, "503 image/svg+xml - [no-store] 1"),
        (Refused::Call(Refusal::CallerUnknown(Unknown::NoToken)), "401 image/svg+xml - [no-store] -"),
        (Refused::Call(Refusal::InstanceNotAllowed), "403 image/svg+xml - [no-store] -"),
        (Refused::Call(Refusal::InstanceNotConfigured), "404 image/svg+xml - [no-store] -"),
        (Refused::Call(Refusal::ChatIdInvalid), "400 image/svg+xml - [no-store] -"),
    ] {
        for (query, kind) in [("", "image/svg+xml"), ("default=404", "-")] {
            let query = Query::parse(Some(query)).unwrap();
            let seen = Seen::default();
            let asked =
                Asked { query: &query, is_head: false, seen: &seen, is_known: false, tagger: &tagger };
            let answer = refuse(&refused, &asked);
            assert_eq!(line(&answer), expected.replace("image/svg+xml", kind), "{refused:?}");
            assert_eq!(header(&answer.0, "avatar-error"), refused.to_string());
            let allow = if refused == Refused::Method { "GET, HEAD" } else { "-" };
            assert_eq!(header(&answer.0, "allow"), allow);
        }
    }
}

#[test]
fn every_response_has_the_headers_that_keep_an_image_an_image() {
    let (query, seen, tagger) = (Query::DEFAULT, Seen::default(), tagger());
    let asked = Asked { query: &query, is_head: false, seen: &seen, is_known: false, tagger: &tagger };
    let tag = tagger.picture("F", Size::S96);
    for (response, _) in [
        shown(picture(FRESH, false), ""),
        shown(Shown::Unchanged { tag, fresh_for: FRESH, is_stale: false }, ""),
        shown(link(FRESH), ""),
        shown(Shown::NotYet, ""),
        shown(rate_limited(), "default=404"),
        refuse(&Refused::Unknown, &asked),
        refuse(&Refused::Ended, &asked),
    ] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-robots-tag", "noindex"),
            ("content-disposition", "inline"),
            ("www-authenticate", "-"),
            ("set-cookie", "-"),
            ("vary", "-"),
        ] {
            assert_eq!(header(&response, name), value, "{name}, {response:?}");
        }
        assert!(response.headers().contains_key("cache-control"));
    }
}

#[tokio::test]
async fn a_browser_that_has_the_image_gets_304_without_it() {
    let (query, tagger) = (Query::DEFAULT, tagger());
    let drawing = tagger.drawing(silhouette(Size::S640).as_bytes());
    for (outcome, tag) in [
        (picture(FRESH, false), tagger.picture("F", Size::S96)),
        (Shown::Absent { fresh_for: FRESH }, drawing.clone()),
        (Shown::NotYet, drawing.clone()),
        (rate_limited(), drawing),
    ] {
        for (sent, status) in [(tag.header().clone(), 304), (HeaderValue::from_static("\"other\""), 200)] {
            let mut headers = HeaderMap::new();
            headers.insert("if-none-match", sent);
            let seen = Seen::of(&headers);
            let asked =
                Asked { query: &query, is_head: false, seen: &seen, is_known: false, tagger: &tagger };
            let (response, _) = show(outcome.clone(), 3, &asked);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[ETAG], tag.header());
            let has_image = response.headers().contains_key(CONTENT_TYPE);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!((has_image, body.is_empty()), (status == 200, status == 304));
        }
    }
}

#[tokio::test]
async fn a_head_request_gets_the_headers_alone() {
    let (query, seen, tagger) = (Query::DEFAULT, Seen::default(), tagger());
    let of = |is_head| {
        let asked = Asked { query: &query, is_head, seen: &seen, is_known: false, tagger: &tagger };
        [show(Shown::NotYet, 3, &asked).0, refuse(&Refused::Unknown, &asked).0]
    };
    for (with, without) in of(false).into_iter().zip(of(true)) {
        assert_eq!(with.headers(), without.headers());
        assert_eq!(header(&without, "content-length"), silhouette(Size::S640).len().to_string());
        assert!(without.into_body().collect().await.unwrap().to_bytes().is_empty());
        assert_eq!(with.into_body().collect().await.unwrap().to_bytes(), silhouette(Size::S640));
    }
}

#[tokio::test]
async fn the_default_image_is_drawn_in_the_size_and_for_the_name() {
    for (query, expected) in [
        ("size=40", silhouette(Size::S48).to_owned()),
        ("size=96&default=initials&name=Ada", initials("Ada", 3, Size::S96).unwrap()),
        ("size=96&default=initials&name=%20", silhouette(Size::S96).to_owned()),
        ("size=96&default=initials", silhouette(Size::S96).to_owned()),
    ] {
        let (response, _) = shown(Shown::NotYet, query);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), expected, "{query}");
    }
}

#[test]
fn only_a_known_caller_reads_why_a_look_up_failed() {
    let (query, seen, tagger) = (Query::DEFAULT, Seen::default(), tagger());
    for (is_known, error, vary) in
        [(false, "-", "-"), (true, "the server's rate limit for this instance is reached", "authorization")]
    {
        let asked = Asked { query: &query, is_head: false, seen: &seen, is_known, tagger: &tagger };
        let (response, _) = show(rate_limited(), 3, &asked);
        assert_eq!((header(&response, "avatar-error"), header(&response, "vary")), (error, vary));
        let (refused, _) = refuse(&Refused::Call(Refusal::CallerUnknown(Unknown::TokenUnknown)), &asked);
        assert_eq!((header(&refused, "vary"), header(&refused, "www-authenticate")), (vary, "-"));
    }
}

#[test]
fn the_link_of_the_cdn_appears_in_location_alone() {
    let (response, _) = shown(link(FRESH), "");
    assert_eq!(header(&response, "location"), "https://pps.example/1?oe=2");
    assert!(response.headers()[LOCATION].is_sensitive());
    let others = response.headers().iter().filter(|(name, _)| *name != LOCATION);
    assert!(others.into_iter().all(|(_, value)| !value.to_str().unwrap().contains("example")));
}

#[test]
fn every_response_is_counted() {
    let mut metrics = Metrics::new(&[]);
    let avatars = metrics.with_avatars();
    let tag = tagger().picture("F", Size::S96);
    let (seen, tagger) = (Seen::default(), tagger());
    let mut count = 0;
    for query in ["", "default=404"] {
        let outcomes = [
            picture(FRESH, false),
            picture(FRESH, true),
            Shown::Unchanged { tag: tag.clone(), fresh_for: FRESH, is_stale: true },
            link(FRESH),
            Shown::Absent { fresh_for: FRESH },
            Shown::NotYet,
            rate_limited(),
            Shown::Failed(E::Internal),
            Shown::Failed(E::NotFound(NotFound::Upstream)),
        ];
        let parsed = Query::parse(Some(query)).unwrap();
        let asked = Asked { query: &parsed, is_head: false, seen: &seen, is_known: false, tagger: &tagger };
        let refusals = [
            Refused::Unknown,
            Refused::Ended,
            Refused::Method,
            Refused::Overloaded,
            Refused::Query(BadQuery::Name),
            Refused::Call(Refusal::Internal),
            Refused::Call(Refusal::InstanceNotAllowed),
            Refused::Call(Refusal::CallerUnknown(Unknown::NoToken)),
        ];
        let answers = outcomes.map(|outcome| show(outcome, 3, &asked)).into_iter();
        for (response, outcome) in answers.chain(refusals.map(|refused| refuse(&refused, &asked))) {
            avatars.answered(response.status().as_u16(), outcome);
            count += 1;
            let text = metrics.text(MetricsForm::Prometheus);
            let samples = text.lines().filter(|line| line.starts_with("hypersender_avatar_requests_total{"));
            let sum: usize =
                samples.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
            assert_eq!(sum, count, "{} {outcome:?} is not counted", response.status());
        }
    }
}
