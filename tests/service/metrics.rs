//! The metrics: the events that they count, and their labels.

use std::time::Duration;

use hypersender_grpc::grpc::contact::GetProfilePictureRequest;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;

use crate::support::{CONTACTS, Samples, Service, about, calls};

#[track_caller]
fn assert_values(samples: &Samples, expected: &[(&str, f64)]) {
    let found: Vec<_> = expected.iter().map(|(name, _)| (*name, samples.value(name))).collect();
    assert_eq!(found, expected, "{}", samples.0);
}

#[tokio::test]
async fn calls_of_every_service_are_counted_by_code() {
    let service = Service::start(&[]).await;
    assert_eq!(service.look_up("15551230001").await, Code::Ok);
    assert_eq!(service.look_up("15551230006").await, Code::NotFound);
    assert_eq!(service.look_up("not a number").await, Code::InvalidArgument);
    let mut health = service.health().await;
    health.check(HealthCheckRequest::default()).await.unwrap();
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();

    let handled =
        |kind, service, method, code| calls("grpc_server_handled_total", kind, service, method, Some(code));
    let health = "grpc.health.v1.Health";
    let canceled = handled("server_stream", health, "Watch", "Canceled");
    let watching = calls("grpc_server_started_total", "server_stream", health, "Watch", None);
    assert_values(&service.metrics().await, &[(&watching, 1.0), (&canceled, 0.0)]);
    drop(watch);
    let samples = service.counted(&canceled, 1.0).await;
    for code in ["OK", "NotFound", "InvalidArgument"] {
        let name = handled("unary", CONTACTS, "GetProfilePicture", code);
        assert_values(&samples, &[(&name, 1.0)]);
    }
    assert_values(&samples, &[(&handled("unary", health, "Check", "OK"), 1.0)]);
    let times = calls("grpc_server_handling_seconds_count", "unary", CONTACTS, "GetProfilePicture", None);
    let started = calls("grpc_server_started_total", "unary", CONTACTS, "GetProfilePicture", None);
    // An error has no message.
    let received = calls("grpc_server_msg_received_total", "unary", CONTACTS, "GetProfilePicture", None);
    let sent = calls("grpc_server_msg_sent_total", "unary", CONTACTS, "GetProfilePicture", None);
    let watched = calls("grpc_server_msg_sent_total", "server_stream", health, "Watch", None);
    let expected = [(&*times, 3.0), (&started, 3.0), (&received, 3.0), (&sent, 1.0), (&watched, 1.0)];
    assert_values(&samples, &expected);
}

#[tokio::test]
async fn a_deadline_that_passes_is_counted_as_such() {
    let service = Service::start(&[]).await;
    let mut request = Request::new(about("15551230012"));
    request.set_timeout(Duration::from_secs(1));
    service.client().await.get_profile_picture(request).await.unwrap_err();
    let name =
        calls("grpc_server_handled_total", "unary", CONTACTS, "GetProfilePicture", Some("DeadlineExceeded"));
    service.counted(&name, 1.0).await;
}

#[tokio::test]
async fn look_ups_are_counted_by_how_the_cache_answered() {
    let service = Service::start(&[]).await;
    for chat in ["15551230001", "15551230001", "15551230001", "15551230004", "15551230013"] {
        service.look_up(chat).await;
    }
    let samples = service.metrics().await;
    assert_values(
        &samples,
        &[
            ("hypersender_cache_lookups_total{status=\"miss\"}", 2.0),
            ("hypersender_cache_lookups_total{status=\"hit\"}", 2.0),
            ("hypersender_cache_lookups_total{status=\"failed\"}", 1.0),
            ("hypersender_cache_entries", 2.0),
            ("hypersender_upstream_attempts_total{outcome=\"picture\"}", 1.0),
            ("hypersender_upstream_attempts_total{outcome=\"absent\"}", 1.0),
            ("hypersender_upstream_attempts_total{outcome=\"response_invalid\"}", 1.0),
            ("hypersender_upstream_attempt_seconds_count", 3.0),
            ("hypersender_pictures_absent_total{reason=\"null\"}", 1.0),
            ("hypersender_breaker_state{state=\"closed\"}", 1.0),
        ],
    );
    assert!(samples.value("hypersender_cache_bytes") > 0.0);
}

#[tokio::test]
async fn links_that_are_no_use_are_counted() {
    let service = Service::start(&["--link-hosts", "pps.whatsapp.net", "--attempts", "1"]).await;
    service.look_up("15551230003").await;
    service.look_up("15551230005").await;
    let expected = [
        ("hypersender_dead_links_total", 1.0),
        ("hypersender_pictures_absent_total{reason=\"foreign_link\"}", 1.0),
        ("hypersender_pictures_absent_total{reason=\"null\"}", 0.0),
    ];
    assert_values(&service.metrics().await, &expected);
}

#[tokio::test]
async fn retries_limits_and_the_breaker_are_counted() {
    // The rate limit allows three attempts: two for a fetch that is retried and one for the next fetch.
    let service = Service::start(&["--rate", "0.001", "--burst", "3"]).await;
    assert_eq!(service.look_up("15551230009").await, Code::Ok);
    let expected = [
        ("hypersender_upstream_retries_total", 1.0),
        ("hypersender_upstream_attempts_total{outcome=\"unavailable\"}", 1.0),
        ("hypersender_upstream_attempts_total{outcome=\"picture\"}", 1.0),
    ];
    assert_values(&service.metrics().await, &expected);
    assert_eq!(service.look_up("15551230001").await, Code::Ok);
    assert_eq!(service.look_up("15551230002").await, Code::ResourceExhausted);
    let refused = [("hypersender_rate_limited_total{purpose=\"caller\"}", 1.0)];
    assert_values(&service.metrics().await, &refused);

    let service = Service::start(&["--breaker-failures", "1", "--attempts", "1"]).await;
    assert_eq!(service.look_up("15551230010").await, Code::Unavailable);
    let open = [
        ("hypersender_breaker_state{state=\"open\"}", 1.0),
        ("hypersender_breaker_state{state=\"closed\"}", 0.0),
    ];
    assert_values(&service.metrics().await, &open);
}

#[tokio::test]
async fn joined_fetches_are_counted_and_those_in_progress_shown() {
    let service = Service::start(&[]).await;
    let (first, second, ()) =
        tokio::join!(service.look_up("15551230011"), service.look_up("15551230011"), async {
            service.counted("hypersender_flights", 1.0).await;
        });
    assert_eq!((first, second), (Code::Ok, Code::Ok));
    let expected = [("hypersender_flights", 0.0), ("hypersender_collapsed_total", 1.0)];
    assert_values(&service.metrics().await, &expected);
}

#[tokio::test]
async fn nothing_that_a_caller_names_becomes_a_label() {
    let service = Service::start(&[]).await;
    let before = service.metrics().await;
    for (instance, chat_id) in [("shop-of-anna", "15551239876"), ("shop-of-ben", "15551239877")] {
        let request = GetProfilePictureRequest { instance: instance.to_owned(), ..about(chat_id) };
        service.ask(request, &[]).await.unwrap();
    }
    for path in ["/made.up.Service/Method", "/hypersender.contact.v1.ContactService/MadeUp"] {
        assert_eq!(service.call(path).await.unwrap_err().code(), Code::Unimplemented);
    }
    let unknown = calls("grpc_server_handled_total", "unary", "unknown", "unknown", Some("Unimplemented"));
    let after = service.counted(&unknown, 2.0).await;
    for secret in ["anna", "ben", "1555123", "made", "MadeUp", "http"] {
        assert!(!after.0.contains(secret), "{secret:?} is in {}", after.0);
    }
    assert_eq!(before.lines().count(), after.lines().count(), "all series are there from the start");
}
