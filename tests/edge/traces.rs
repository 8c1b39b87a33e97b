//! Traces: what a collector gets of calls and attempts, and that calls need no collector.

use std::{fmt::Write, net::TcpListener};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use hypersender_grpc::grpc::contact::{
    CacheControl, GetProfilePictureRequest, contact_service_client::ContactServiceClient,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rcgen::generate_simple_self_signed;
use tempfile::NamedTempFile;
use tonic::{Code, Request, client::Grpc, transport::Identity};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    collector::{Collector, attribute, attributes, is_error, is_server},
    door::Door,
    support::{Service, patiently, serve},
};
use crate::process::Launch;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const METHOD: &str = "hypersender.contact.v1.ContactService/GetProfilePicture";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The service on its sandbox, which sends spans soon after they end.
fn tracing(endpoint: &str, flags: &[&str]) -> Launch {
    let launch = serve(&["--sandbox"]).flags(flags);
    launch.variable(ENDPOINT, endpoint).variable("OTEL_BSP_SCHEDULE_DELAY", "50")
}

async fn start(collector: &Collector, flags: &[&str]) -> Service {
    tracing(&collector.endpoint(), flags).start().await
}

/// Looks up `chat_id` with these entries of metadata.
async fn look_up(service: &Service, chat_id: &str, metadata: &[(&'static str, &str)]) -> Code {
    let mut client = ContactServiceClient::new(service.channel().await);
    let mut request =
        Request::new(GetProfilePictureRequest { chat_id: chat_id.to_owned(), ..Default::default() });
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    let answer = patiently("an answer", client.get_profile_picture(request)).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[track_caller]
fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attribute(span, key).as_deref(), Some(*value), "{key} of {span:#?}");
    }
}

#[tokio::test]
async fn a_call_and_its_attempt_are_part_of_the_callers_trace() {
    let collector = Collector::start().await;
    let service = start(&collector, &[]).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let trace = [("traceparent", parent.as_str()), ("tracestate", "shop=1")];
    assert_eq!(look_up(&service, "15551230001", &trace).await, Code::Ok);
    let [attempt, call] = collector.spans(2).await.try_into().unwrap();

    assert_eq!((call.name.as_str(), is_server(&call), is_error(&call)), (METHOD, true, false));
    assert_eq!((hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()), (TRACE, CALLER));
    assert_eq!(call.trace_state, "shop=1");
    let answered = [("rpc.response.status_code", "OK"), ("hypersender.cache.status", "miss")];
    assert_attributes(&call, &[("rpc.system.name", "grpc"), ("rpc.method", METHOD)]);
    assert_attributes(&call, &answered);
    assert_attributes(&call, &[("hypersender.cache.collapsed", "false")]);
    assert_eq!(call.attributes.len(), 5, "{call:#?}");

    assert_eq!(attempt.name, "GET /{instance}/contacts/profile-picture");
    assert_eq!((is_server(&attempt), is_error(&attempt)), (false, false));
    assert_eq!((attempt.trace_id, &attempt.parent_span_id), (call.trace_id.clone(), &call.span_id));
    let attempt = Span { trace_id: call.trace_id, ..attempt };
    assert_attributes(&attempt, &[("http.request.method", "GET"), ("http.response.status_code", "200")]);
    assert_attributes(&attempt, &[("server.address", "127.0.0.1"), ("hypersender.outcome", "picture")]);
    assert_attributes(&attempt, &[("url.template", "/{instance}/contacts/profile-picture")]);
    let id = attribute(&attempt, "http.response.header.s-request-id").unwrap();
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    let names = ["hypersender.outcome", "hypersender.purpose", "server.address", "server.port"];
    let http = ["http.request.method", "http.response.header.s-request-id", "http.response.status_code"];
    assert_eq!(attributes(&attempt), [&http[..], &names, &["url.template"]].concat());
    assert_eq!(collector.resource("service.name"), "hypersender-grpc");
    assert_eq!(collector.resource("service.version"), env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_hit_has_a_span_and_no_attempt() {
    let collector = Collector::start().await;
    let service = tracing(&collector.endpoint(), &[])
        .variable("OTEL_SERVICE_NAME", "pictures")
        .variable("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,zone=a")
        .start()
        .await;
    for _ in 0..2 {
        // What cannot be read is ignored: each call begins a trace.
        look_up(&service, "15551230001", &[("traceparent", "00-1-1-01")]).await;
    }
    let [_, miss, hit] = collector.spans(3).await.try_into().unwrap();
    assert_attributes(&hit, &[("hypersender.cache.status", "hit"), ("rpc.response.status_code", "OK")]);
    assert!(hit.parent_span_id.is_empty());
    assert_ne!(hit.trace_id, miss.trace_id);
    assert_eq!(collector.resource("service.name"), "pictures");
    assert_eq!(collector.resource("zone"), "a");
}

#[tokio::test]
async fn what_nobody_wants_to_see_has_no_span() {
    let collector = Collector::start().await;
    let service = start(&collector, &[]).await;
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    look_up(&service, "15551230002", &[("traceparent", &unsampled)]).await;
    HealthClient::new(service.channel().await).check(HealthCheckRequest::default()).await.unwrap();
    for path in ["/made.up.Service/Method", "/hypersender.contact.v1.ContactService/MadeUp"] {
        let mut client = Grpc::new(service.channel().await);
        patiently("a ready channel", client.ready()).await.unwrap();
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
        let request = Request::new(HealthCheckRequest::default());
        client.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
    }
    // Spans arrive in the order in which they ended.
    look_up(&service, "15551230001", &[]).await;
    let spans = collector.spans(2).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:#?}");
}

#[tokio::test]
async fn the_sampler_is_that_of_the_variables() {
    let collector = Collector::start().await;
    let launch = tracing(&collector.endpoint(), &[]);
    let service = launch.variable("OTEL_TRACES_SAMPLER", "parentbased_always_off").start().await;
    look_up(&service, "15551230001", &[]).await;
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    look_up(&service, "15551230001", &[("traceparent", &sampled)]).await;
    assert_eq!(hex(&collector.spans(1).await[0].trace_id), TRACE);
}

#[tokio::test]
async fn attempts_tell_how_they_failed_and_calls_what_is_the_servers_fault() {
    let collector = Collector::start().await;
    let service = start(&collector, &[]).await;
    assert_eq!(look_up(&service, "15551230009", &[]).await, Code::Ok);
    let [failed, again, call] = collector.spans(3).await.try_into().unwrap();
    assert!(is_error(&failed) && !is_error(&again) && !is_error(&call));
    assert_attributes(&failed, &[("error.type", "500"), ("hypersender.outcome", "unavailable")]);
    assert_attributes(&again, &[("http.request.resend_count", "1"), ("http.response.status_code", "200")]);
    assert_eq!(attribute(&failed, "http.request.resend_count"), None);

    assert_eq!(look_up(&service, "15551230006", &[]).await, Code::NotFound);
    let [.., attempt, call] = &collector.spans(5).await[..] else { panic!() };
    assert!(!is_error(attempt) && !is_error(call));
    assert_attributes(attempt, &[("http.response.status_code", "422"), ("hypersender.outcome", "not_found")]);
    assert_attributes(call, &[("rpc.response.status_code", "NOT_FOUND")]);

    let once = start(&collector, &["--attempt-timeout", "1s", "--attempts", "1"]).await;
    assert_eq!(look_up(&once, "15551230012", &[]).await, Code::Unavailable);
    let [.., attempt, call] = &collector.spans(7).await[..] else { panic!() };
    assert!(is_error(attempt) && is_error(call));
    assert_attributes(attempt, &[("error.type", "timed_out"), ("hypersender.outcome", "timed_out")]);
    assert_attributes(call, &[("rpc.response.status_code", "UNAVAILABLE"), ("error.type", "UNAVAILABLE")]);
}

#[tokio::test]
async fn a_call_that_joins_a_fetch_points_to_the_call_that_began_it() {
    let collector = Collector::start().await;
    let service = start(&collector, &[]).await;
    tokio::join!(look_up(&service, "15551230011", &[]), look_up(&service, "15551230011", &[]));
    let (calls, attempts): (Vec<_>, Vec<_>) = collector.spans(3).await.into_iter().partition(is_server);
    let collapsed = |call: &&Span| attribute(call, "hypersender.cache.collapsed").unwrap() == "true";
    let joined = calls.iter().find(collapsed).unwrap();
    let began = calls.iter().find(|call| !collapsed(call)).unwrap();
    let links: Vec<_> = joined.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(links, [(&began.trace_id, &began.span_id)]);
    assert_eq!((attempts.len(), &attempts[0].parent_span_id), (1, &began.span_id));
    assert!(began.links.is_empty());
}

#[tokio::test]
async fn a_background_refresh_is_part_of_the_call_that_asked_for_it() {
    let collector = Collector::start().await;
    // Stale at once, and not too young to be fetched again.
    let flags = ["--cache-ttl", "0", "--refresh-floor", "0"];
    let service = start(&collector, &flags).await;
    for _ in 0..2 {
        look_up(&service, "15551230001", &[]).await;
    }
    let spans = collector.spans(4).await;
    let stale = |span: &&Span| attribute(span, "hypersender.cache.status").as_deref() == Some("stale");
    let refresh = |span: &&Span| attribute(span, "hypersender.purpose").as_deref() == Some("refresh");
    let (call, attempt) = (spans.iter().find(stale).unwrap(), spans.iter().find(refresh).unwrap());
    assert_eq!(attempt.parent_span_id, call.span_id);
}

/// Each looks like nothing else.
const TOKEN: &str = "7|Zq9markedtoken";
const NUMBER: &str = "4917099887766";
const FILE: &str = "778899001122";
const WORDS: &str = "Marked words of upstream";
const INSTANCE: &str = "marked-instance";
const HEADER: &str = "marked-header";

#[tokio::test]
async fn no_secret_and_no_contact_is_in_a_trace_and_none_of_the_collectors_in_a_log() {
    let link = format!("https://pps.whatsapp.net/v/{FILE}_n.jpg?oh={WORDS}&oe=7FFFFFFF").replace(' ', "+");
    let body = format!(r#"{{"message":"{WORDS}","data":{{"profilePictureURL":"{link}"}}}}"#);
    let failed = format!(r#"{{"message":"{WORDS} {NUMBER} {TOKEN}"}}"#);
    let answer = |status: StatusCode, body: String| {
        let headers = [("content-type", "application/json"), ("s-request-id", WORDS)];
        get(move || async move { (status, headers, body).into_response() })
    };
    let routes = Router::new()
        .route(&format!("/{INSTANCE}/contacts/profile-picture"), answer(StatusCode::OK, body))
        .fallback_service(answer(StatusCode::BAD_GATEWAY, failed));
    let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", upstream.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(upstream, routes).await.unwrap() });

    let collector = Collector::start().await;
    let headers = format!("x-key={HEADER}");
    let variables = [
        (ENDPOINT, collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", headers),
        ("HYPERSENDER_WHATSAPP_BASE_URL", root),
        ("HYPERSENDER_WHATSAPP_API_KEY", TOKEN.to_owned()),
        ("HYPERSENDER_GRPC_ATTEMPTS", "1".to_owned()),
    ];
    let door = Door::open(&variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let authorization = format!("Bearer {TOKEN}");
    for instance in [INSTANCE, "other-marked-instance"] {
        let _ = door.ask(&[&authorization], instance, NUMBER, CacheControl::default()).await;
    }
    assert!(is_error(&collector.spans(4).await[3]));
    let log = door.logs();
    for (metadata, message) in collector.received() {
        assert_eq!(metadata.get("x-key").unwrap(), HEADER);
        let sent = String::from_utf8_lossy(&message.encode_to_vec()).into_owned();
        for mark in [&TOKEN[2..], NUMBER, FILE, WORDS, &WORDS.replace(' ', "+"), INSTANCE] {
            assert!(!sent.contains(mark), "{mark} is in {message:#?}");
        }
    }
    assert!(log.contains("upstream gave no answer") && !log.contains(HEADER), "{log}");
}

#[tokio::test]
async fn without_a_collector_nobody_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    for (name, value) in [(ENDPOINT, ""), ("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let mut service = tracing(&endpoint, &[]).variable(name, value).start().await;
        assert_eq!(look_up(&service, "15551230001", &[]).await, Code::Ok);
        service.signal("INT").await;
        let (code, log) = (service.exit_code().await, service.logs());
        assert_eq!(code, 0, "{log}");
        assert!(!log.contains("traces"), "{log}");
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_collector_that_is_silent_or_gone_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let launch = tracing(&format!("http://{address}"), &["--drain-wait", "0"]);
        // Far beyond this test's patience.
        let mut service = launch.variable("OTEL_EXPORTER_OTLP_TIMEOUT", "600000").start().await;
        for _ in 0..3 {
            assert_eq!(look_up(&service, "15551230001", &[]).await, Code::Ok);
        }
        service.signal("TERM").await;
        let (code, log) = (service.exit_code().await, service.logs());
        assert_eq!(code, 0, "{log}");
        let warnings = log.lines().filter(|line| line.contains(r#""level":"WARN""#));
        assert!((1..=2).contains(&warnings.count()), "{log}");
    }
}

#[tokio::test]
async fn a_collector_may_be_asked_by_tls() {
    let certified = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let store = NamedTempFile::new().unwrap();
    std::fs::write(store.path(), &certificate).unwrap();
    let collector = Collector::start_tls(Identity::from_pem(certificate, key)).await;
    let launch = tracing(&format!("https://localhost:{}", collector.port()), &[]);
    let service = launch.variable("SSL_CERT_FILE", store.path().to_str().unwrap()).start().await;
    look_up(&service, "15551230001", &[]).await;
    collector.spans(2).await;
}

#[tokio::test]
async fn a_collector_may_be_asked_over_http() {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    for (name, base, path) in [
        (ENDPOINT, "", "/v1/traces"),
        (ENDPOINT, "/otlp/", "/otlp/v1/traces"),
        (TRACES, "/custom", "/custom"),
    ] {
        let collector = Collector::start_http(path).await;
        let service = tracing("http://127.0.0.1:9", &[])
            .variable(name, collector.endpoint() + base)
            .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf\r")
            .variable("OTEL_EXPORTER_OTLP_HEADERS", format!("x-key={HEADER}"))
            // Neither proxies nor certificates of authorities have a part in it.
            .variable("HTTP_PROXY", "http://127.0.0.1:9")
            .variable("SSL_CERT_FILE", "/nonexistent")
            .start()
            .await;
        assert_eq!(look_up(&service, "15551230001", &[]).await, Code::Ok);
        let [attempt, call] = collector.spans(2).await.try_into().unwrap();
        assert_eq!((call.name.as_str(), attempt.parent_span_id), (METHOD, call.span_id), "{path}");
        assert_eq!(collector.resource("service.name"), "hypersender-grpc");
        for (metadata, message) in collector.received() {
            assert_eq!(metadata.get("x-key").unwrap(), HEADER);
            let sent = String::from_utf8_lossy(&message.encode_to_vec()).into_owned();
            assert!(!sent.contains("15551230001") && !sent.contains("pps.whatsapp"), "{message:#?}");
        }
        assert!(!service.logs().contains(HEADER), "{}", service.logs());
    }
}

#[tokio::test]
async fn a_collector_over_http_that_fails_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = Collector::start_http("/elsewhere").await;
    let [silent, gone] = [silent.local_addr().unwrap(), gone].map(|address| format!("http://{address}"));
    for endpoint in [silent, gone, elsewhere.endpoint()] {
        let launch = tracing(&endpoint, &["--drain-wait", "0"]);
        let launch = launch.variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let mut service = launch.variable("OTEL_EXPORTER_OTLP_TIMEOUT", "600000").start().await;
        assert_eq!(look_up(&service, "15551230001", &[]).await, Code::Ok);
        service.signal("TERM").await;
        let (code, log) = (service.exit_code().await, service.logs());
        assert_eq!(code, 0, "{log}");
        assert!(log.lines().any(|line| line.contains(r#""level":"WARN""#)), "{log}");
    }
}

#[tokio::test]
async fn a_collector_that_nobody_could_ask_is_a_fault_of_its_variable() {
    for (name, value) in [
        (ENDPOINT, "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:marked@collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ] {
        let ended = tracing("http://127.0.0.1:4317", &[]).variable(name, value).run().await;
        let told = ended.stderr;
        assert_eq!(ended.code, 78, "{told}");
        assert!(told.starts_with(&format!("error: 1 setting at fault\n  {name}: ")), "{told}");
        assert!(!told.contains("marked"), "{told}");
    }
}
