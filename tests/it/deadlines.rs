//! `grpc-timeout` in all its forms, and which limit ends a call: the caller's, the service's own, or that of a fetch.
//!
//! Long times are tokio's, which a test can stop; then everything but the sockets is the real service.

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
    domain::{Answer, Credential, Instance, Lookup, LookupError, TokenOwner},
    grpc::{Contacts, Credentials, GET_PROFILE_PICTURE},
    server::{CallersLayer, DeadlineLayer, MessageLayer},
    stack::{
        BreakerSettings, CacheSettings, Clock, ConcurrencySettings, RateSettings, RetrySettings, Settings,
        stack,
    },
};
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::support::{CHAT, Fault, INSTANCE, Reply, Service, TOKEN, Upstream, about, patiently};

/// What calls get that state no time.
const UNSTATED: Duration = Duration::from_secs(3);

/// What a call states, and the most milliseconds that it may then take.
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
    // What cannot be read counts as none: the protocol says nothing of it, and no call may go on for ever.
    (Some(""), 3_000),
    (Some("1"), 3_000),
    (Some("S"), 3_000),
    (Some("1s"), 3_000),
    (Some("-1S"), 3_000),
    (Some("1.5S"), 3_000),
    (Some("123456789S"), 3_000),
];

/// The message in its frame.
fn message() -> Bytes {
    let message = about(CHAT).encode_to_vec();
    [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &*message].concat().into()
}

/// A body whose headers are sent and whose message never is.
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

fn told(headers: &HeaderMap) -> (Code, String) {
    let fault = Fault::from(&Status::from_header_map(headers).expect("a status and nothing before it"));
    (fault.code, fault.reason)
}

/// Calls the service within this process; what it tells, and after how long.
async fn ask<S>(lookup: S, stated: Option<&str>, body: Body) -> (Code, String, Duration)
where
    S: tower::Service<Lookup, Response = Answer, Error = LookupError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let credentials = Credentials {
        any: Some(Credential::new(TOKEN.into(), &RandomState::new())),
        default_instance: Some(Instance::parse(INSTANCE).unwrap()),
        ..Credentials::default()
    };
    let front = ServiceBuilder::new()
        .layer(CallersLayer::new(None, TokenOwner::Server))
        .layer(DeadlineLayer::new(UNSTATED))
        .layer(MessageLayer::default());
    let service = front.service(Contacts::new(lookup, credentials));
    let start = Instant::now();
    let response = service.oneshot(call(GET_PROFILE_PICTURE, stated, body)).await.unwrap();
    let (code, reason) = told(response.headers());
    (code, reason, start.elapsed())
}

/// A little before the time is up, so that the caller still reads it.
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
async fn a_look_up_that_forgets_its_deadline_is_ended_too() {
    for (stated, most) in STATED {
        let lookup = service_fn(|_: Lookup| pending());
        let body = Body::new(Full::new(message()));
        assert_deadline(&ask(lookup, stated, body).await, most, &format!("{stated:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_hanging_upstream_the_shorter_one_of_deadline_and_fetch_ends_a_call() {
    /// Whatever a caller would allow, a fetch takes no longer.
    const FETCH_MAX: u64 = 15_000;
    for (stated, most) in STATED {
        let settings = Settings {
            cache: CacheSettings::default(),
            flights: 16,
            retry: RetrySettings { attempts: 3, budget: 0.1 },
            breaker: BreakerSettings { failures: 5 },
            rate: RateSettings { per_second: 5.0, burst: 20 },
            concurrency: ConcurrencySettings { attempts: 64 },
        };
        let hanging = service_fn(|_: Lookup| pending::<Result<Answer, LookupError>>());
        let clock = Clock::following_tokio(SystemTime::now());
        let (_, lookup) = stack(settings, clock, &Arc::default(), hanging);
        let answer = ask(lookup, stated, Body::new(Full::new(message()))).await;
        if most <= FETCH_MAX {
            assert_deadline(&answer, most, &format!("{stated:?}"));
        } else {
            let (code, reason, time) = answer;
            assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_TIMEOUT"), "{stated:?}");
            assert!(just_before(FETCH_MAX).contains(&time), "{stated:?}: {time:?}");
        }
    }
}

/// Over a socket, by a client whose own clock never ends a call.
async fn ask_at(service: &Service, stated: Option<&str>, body: Body) -> (Code, String) {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let url = format!("http://{}{GET_PROFILE_PICTURE}", service.address());
    let response = patiently("an answer", client.request(call(&url, stated, body))).await.unwrap();
    told(response.headers())
}

#[tokio::test]
async fn no_call_to_the_built_service_is_cancelled_for_its_deadline() {
    let upstream = Upstream::start([Reply::hang()]).await;
    // Far above any deadline here, so that only the deadline can end a call.
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
