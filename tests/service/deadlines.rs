//! `grpc-timeout` in all its forms, and the limit that ends a call: the deadline of the caller, the longest
//! deadline of the service, or the time of a fetch.
//!
//! Tests with long times use tokio's paused clock. They run the real service without sockets.

use std::{
    convert::Infallible,
    future::pending,
    hash::RandomState,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use hypersender_grpc::{
    domain::{Again, Answer, Credential, Instance, Lookup, LookupError},
    grpc::{Contacts, Credentials, GET_PROFILE_PICTURE, Health, StreamSettings, Streams},
    server::{self, Leaving},
    stack::{Clock, LookupService, Settings, stack},
    telemetry::Metrics,
};
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{ServiceExt, service_fn};

use crate::support::{CHAT, Fault, INSTANCE, Pushback, Reply, Service, TOKEN, Upstream, about, patiently};

/// The deadline of a call without `grpc-timeout`.
const UNSTATED: Duration = Duration::from_secs(3);

/// A `grpc-timeout`, and the most milliseconds of a call with it.
const STATED: [(Option<&str>, u64); 15] = [
    (Some("1m"), 1),
    (Some("10m"), 10),
    (Some("100m"), 100),
    (Some("1S"), 1_000),
    (Some("0S"), 1),
    // No call may take longer than 30 s.
    (Some("1M"), 30_000),
    (Some("1H"), 30_000),
    (None, 3_000),
    // An invalid value counts as none. The protocol does not define this, and every call must end.
    (Some(""), 3_000),
    (Some("1"), 3_000),
    (Some("S"), 3_000),
    (Some("1s"), 3_000),
    (Some("-1S"), 3_000),
    (Some("1.5S"), 3_000),
    (Some("123456789S"), 3_000),
];

/// The message with its length prefix.
fn message() -> Bytes {
    let message = about(CHAT).encode_to_vec();
    [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &*message].concat().into()
}

/// A body without an end and without a message.
fn never() -> Body {
    Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()))
}

fn call(url: &str, stated: Option<&str>, body: Body) -> Request<Body> {
    let mut request = Request::post(url).header(CONTENT_TYPE, "application/grpc");
    if let Some(stated) = stated {
        request = request.header("grpc-timeout", stated);
    }
    request.body(body).unwrap()
}

fn fault(headers: &HeaderMap) -> Fault {
    Fault::from(&Status::from_header_map(headers).expect("a status and nothing before it"))
}

fn told(headers: &HeaderMap) -> (Code, String) {
    let fault = fault(headers);
    (fault.code, fault.reason)
}

/// Calls a service in this process that takes `calls` at a time. Returns the failure and the time of the
/// call.
async fn failing(
    upstream: impl LookupService,
    calls: usize,
    stated: Option<&str>,
    body: Body,
) -> (Fault, Duration) {
    let credentials = Credentials {
        any: Some(Credential::new(TOKEN.into(), &RandomState::new())),
        default_instance: Some(Instance::parse(INSTANCE).unwrap()),
        ..Credentials::default()
    };
    let settings = server::Settings { deadline: UNSTATED, in_flight: calls, ..server::Settings::default() };
    let (health, metrics) = (Health::serving().await, Metrics::new(&[]).calls.clone());
    let clock = Clock::following_tokio(SystemTime::now());
    let (_, stack) =
        stack(Settings { flights: 16, ..Settings::default() }, clock, &Arc::default(), None, upstream);
    let streams = Streams::new(StreamSettings::default(), Arc::default());
    let contacts = Contacts::new(stack, credentials.into(), streams, Arc::default(), None);
    let service = server::calls(contacts, &settings, &health, metrics, None, &Leaving::new());
    let start = Instant::now();
    let response = service.oneshot(call(GET_PROFILE_PICTURE, stated, body)).await.unwrap();
    (fault(response.headers()), start.elapsed())
}

/// The same for a service that takes one call at a time. Returns the code, the reason and the time.
async fn ask(upstream: impl LookupService, stated: Option<&str>, body: Body) -> (Code, String, Duration) {
    let (fault, time) = failing(upstream, 1, stated, body).await;
    (fault.code, fault.reason, time)
}

/// The time in which an answer must come: shortly before the deadline, so that the caller still gets it.
fn just_before(most: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(most.saturating_sub(25))..=Duration::from_millis(most)
}

fn assert_deadline(told: &(Code, String, Duration), most: u64, row: &str) {
    assert_eq!((told.0, told.1.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{row}");
    assert!(just_before(most).contains(&told.2), "{row}: {:?}", told.2);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_message_never_comes_ends_in_time() {
    for (stated, most) in STATED {
        let lookup = service_fn(|_: Lookup| pending());
        assert_deadline(&ask(lookup, stated, never()).await, most, &format!("{stated:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_hanging_upstream_the_shorter_one_of_deadline_and_fetch_ends_a_call() {
    /// The longest time of a fetch, for every deadline.
    const FETCH_MAX: u64 = 15_000;
    for (stated, most) in STATED {
        let hanging = service_fn(|_: Lookup| pending::<Result<Answer, LookupError>>());
        let answer = ask(hanging, stated, Body::new(Full::new(message()))).await;
        if most <= FETCH_MAX {
            assert_deadline(&answer, most, &format!("{stated:?}"));
        } else {
            let (code, reason, time) = answer;
            assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_TIMEOUT"), "{stated:?}");
            assert!(just_before(FETCH_MAX).contains(&time), "{stated:?}: {time:?}");
        }
    }
}

/// Calls the service over a socket, with a client that has no time-out.
async fn ask_at(service: &Service, stated: Option<&str>, body: Body) -> (Code, String) {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let url = format!("http://{}{GET_PROFILE_PICTURE}", service.address());
    let response = patiently("an answer", client.request(call(&url, stated, body))).await.unwrap();
    told(response.headers())
}

#[tokio::test]
async fn no_call_to_the_built_service_is_cancelled_for_its_deadline() {
    let upstream = Upstream::start([Reply::hang()]).await;
    // The time of an attempt is far above all deadlines, so that only the deadline can end a call.
    let flags = ["--deadline", "1s", "--attempt-timeout", "15s", "--rate", "0", "--breaker-failures", "0"];
    let service = Service::asking(&upstream).flags(&flags).start().await;
    let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    let short = STATED.into_iter().filter(|(_, most)| *most <= 3_000);
    let calls = short.flat_map(|(stated, _)| [(stated, Body::new(Full::new(message()))), (stated, never())]);
    let calls = calls.map(|(stated, body)| {
        let (service, expected) = (&service, &expected);
        async move { assert_eq!(ask_at(service, stated, body).await, *expected, "{stated:?}") }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_callers_own_time_is_for_another_call() {
    /// The time after which the look-up fails. Its error asks for the wait `WAIT`.
    const TAKES: Duration = Duration::from_secs(2);
    const WAIT: u64 = 60_000;
    let lookup = || {
        service_fn(|_: Lookup| async {
            tokio::time::sleep(TAKES).await;
            let retry_after = Some(Duration::from_millis(WAIT));
            Err::<Answer, _>(LookupError::Unavailable { retry_after, again: Again::No })
        })
    };
    for (stated, of_lookup, of_overload) in [
        // A caller without `grpc-timeout` can wait for any time after its call has ended.
        (None, Pushback::Ms(WAIT), Pushback::Ms(1_000)),
        (Some("1s"), Pushback::Ms(WAIT), Pushback::Ms(1_000)),
        (Some("1H"), Pushback::Ms(WAIT), Pushback::Ms(1_000)),
        (Some("63S"), Pushback::Ms(WAIT), Pushback::Ms(1_000)),
        // The look-up has used a part of the caller's time, so the rest is too short for the wait.
        (Some("62S"), Pushback::Later(WAIT), Pushback::Ms(1_000)),
        (Some("3S"), Pushback::Later(WAIT), Pushback::Ms(1_000)),
    ] {
        let body = || Body::new(Full::new(message()));
        let (failed, _) = failing(lookup(), 1, stated, body()).await;
        assert_eq!((failed.code, failed.pushback), (Code::Unavailable, of_lookup), "{stated:?}");
        let (refused, _) = failing(lookup(), 0, stated, body()).await;
        assert_eq!((refused.reason.as_str(), refused.pushback), ("OVERLOADED", of_overload), "{stated:?}");
    }
    let (refused, _) = failing(lookup(), 0, Some("1S"), Body::new(Full::new(message()))).await;
    assert_eq!(refused.pushback, Pushback::Later(1_000));
}

#[tokio::test]
async fn the_built_service_tells_the_true_error_and_not_to_wait_for_it() {
    let upstream = Upstream::start([Reply::status(503).header("Retry-After", 120)]).await;
    let service = Service::asking(&upstream).start().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let url = format!("http://{}{GET_PROFILE_PICTURE}", service.address());
    for (stated, later) in [(Some("5S"), true), (Some("1H"), false), (None, false)] {
        let call = call(&url, stated, Body::new(Full::new(message())));
        let response = patiently("an answer", client.request(call)).await.unwrap();
        let fault = fault(response.headers());
        assert_eq!((fault.code, fault.reason.as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
        assert_eq!(matches!(fault.pushback, Pushback::Later(1..)), later, "{stated:?}: {:?}", fault.pushback);
        assert_eq!(matches!(fault.pushback, Pushback::Ms(1..)), !later, "{stated:?}: {:?}", fault.pushback);
    }
}
