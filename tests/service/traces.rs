//! Traces: the spans of calls and attempts in a collector, and that calls need no collector.

use std::{fmt::Write, net::TcpListener};

use hypersender_grpc::grpc::contact::GetProfilePictureRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;

use crate::support::{
    Authority, CHAT, Collector, Launch, Reply, Service, Upstream, about, attribute, attributes, is_error,
    is_server,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const METHOD: &str = "hypersender.contact.v1.ContactService/GetProfilePicture";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The command that starts a service in front of its sandbox. It exports spans soon after they end.
fn tracing(endpoint: &str, flags: &[&str]) -> Launch {
    let launch = Service::sandboxed().flags(flags);
    launch.variable(ENDPOINT, endpoint).variable("OTEL_BSP_SCHEDULE_DELAY", "50")
}

async fn start(collector: &Collector, flags: &[&str]) -> Service {
    tracing(&collector.endpoint(), flags).start().await
}

/// Makes a call for the picture of `chat_id` with these entries of metadata, and returns its code.
async fn look_up(service: &Service, chat_id: &str, metadata: &[(&'static str, &str)]) -> Code {
    let answer = service.ask(about(chat_id), metadata).await;
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
    assert_eq!(look_up(&service, CHAT, &trace).await, Code::Ok);
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
        // An invalid `traceparent` is ignored, and each call begins a trace.
        look_up(&service, CHAT, &[("traceparent", "00-1-1-01")]).await;
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
    service.health().await.check(HealthCheckRequest::default()).await.unwrap();
    for path in ["/made.up.Service/Method", "/hypersender.contact.v1.ContactService/MadeUp"] {
        service.call(path).await.unwrap_err();
    }
    // Spans arrive in the order of their ends, so that no later span can follow.
    look_up(&service, CHAT, &[]).await;
    let spans = collector.spans(2).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:#?}");
}

#[tokio::test]
async fn the_sampler_is_that_of_the_variables() {
    let collector = Collector::start().await;
    let launch = tracing(&collector.endpoint(), &[]);
    let service = launch.variable("OTEL_TRACES_SAMPLER", "parentbased_always_off").start().await;
    look_up(&service, CHAT, &[]).await;
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    look_up(&service, CHAT, &[("traceparent", &sampled)]).await;
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
    // The answer is stale at once, and no refresh floor delays the next fetch.
    let flags = ["--cache-ttl", "0", "--refresh-floor", "0"];
    let service = start(&collector, &flags).await;
    for _ in 0..2 {
        look_up(&service, CHAT, &[]).await;
    }
    let spans = collector.spans(4).await;
    let stale = |span: &&Span| attribute(span, "hypersender.cache.status").as_deref() == Some("stale");
    let refresh = |span: &&Span| attribute(span, "hypersender.purpose").as_deref() == Some("refresh");
    let (call, attempt) = (spans.iter().find(stale).unwrap(), spans.iter().find(refresh).unwrap());
    assert_eq!(attempt.parent_span_id, call.span_id);
}

/// The marks of secrets.
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
    let replies = [Reply::json(200, body), Reply::json(502, failed)];
    let upstream = Upstream::start(replies.map(|reply| reply.header("s-request-id", WORDS))).await;

    let collector = Collector::start().await;
    let headers = format!("x-key={HEADER}");
    let service = Launch::serve()
        .variable(ENDPOINT, collector.endpoint())
        .variable("OTEL_BSP_SCHEDULE_DELAY", "50")
        .variable("OTEL_EXPORTER_OTLP_HEADERS", headers)
        .variable("HYPERSENDER_WHATSAPP_BASE_URL", upstream.base_url())
        .variable("HYPERSENDER_WHATSAPP_API_KEY", TOKEN)
        .variable("HYPERSENDER_GRPC_ATTEMPTS", "1")
        .start()
        .await;
    let authorization = format!("Bearer {TOKEN}");
    for instance in [INSTANCE, "other-marked-instance"] {
        let request = GetProfilePictureRequest { instance: instance.to_owned(), ..about(NUMBER) };
        let _ = service.ask(request, &[("authorization", &authorization)]).await;
    }
    assert!(is_error(&collector.spans(4).await[3]));
    let log = service.logs();
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
        assert_eq!(look_up(&service, CHAT, &[]).await, Code::Ok);
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
        // This is much longer than the time-out of the test.
        let mut service = launch.variable("OTEL_EXPORTER_OTLP_TIMEOUT", "600000").start().await;
        for _ in 0..3 {
            assert_eq!(look_up(&service, CHAT, &[]).await, Code::Ok);
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
    let authority = Authority::new();
    let store = authority.file();
    let collector = Collector::start_tls(&authority.identity("localhost")).await;
    let launch = tracing(&format!("https://localhost:{}", collector.port()), &[]);
    let service = launch.variable("SSL_CERT_FILE", store.path().to_str().unwrap()).start().await;
    look_up(&service, CHAT, &[]).await;
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
            // The exporter uses neither proxies nor certificate authorities.
            .variable("HTTP_PROXY", "http://127.0.0.1:9")
            .variable("SSL_CERT_FILE", "/nonexistent")
            .start()
            .await;
        assert_eq!(look_up(&service, CHAT, &[]).await, Code::Ok);
        let [attempt, call] = collector.spans(2).await.try_into().unwrap();
        assert_eq!((call.name.as_str(), attempt.parent_span_id), (METHOD, call.span_id), "{path}");
        assert_eq!(collector.resource("service.name"), "hypersender-grpc");
        for (metadata, message) in collector.received() {
            assert_eq!(metadata.get("x-key").unwrap(), HEADER);
            let sent = String::from_utf8_lossy(&message.encode_to_vec()).into_owned();
            assert!(!sent.contains(CHAT) && !sent.contains("pps.whatsapp"), "{message:#?}");
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
        assert_eq!(look_up(&service, CHAT, &[]).await, Code::Ok);
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
