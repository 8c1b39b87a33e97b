//! The limits of a connection: the time until the client begins, the protocol, the size of messages, and the
//! age.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};

use super::support::{CHAT, Fault, PATIENCE, Pushback, Reply, Service, Upstream, about, patiently, question};

/// Whether the service closes the connection after the time in which a peer must begin.
async fn closed(connection: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(timeout(PATIENCE, connection.read_to_end(&mut rest)).await, Ok(Ok(_) | Err(_)))
}

#[tokio::test]
async fn a_low_limit_of_open_files_leaves_room_for_connections() {
    for (limit, connections) in [(64, 32), (256, 128)] {
        let launch = Service::sandboxed().flags(&["--rate", "0"]).open_files(limit);
        let service = launch.start().await;
        let clients = patiently("connections", join_all((0..connections).map(|_| service.client()))).await;
        // Each call has its own connection and its own contact.
        let calls = clients.into_iter().zip(15_551_230_100_u64..).map(|(mut client, chat)| async move {
            client.get_profile_picture(about(&chat.to_string())).await.map(drop).map_err(|error| error.code())
        });
        let answers = patiently("answers", join_all(calls)).await;
        assert!(answers.iter().all(Result::is_ok), "{limit}: {answers:?}");
        assert!(service.logs().contains("the limit of open files is low"), "{limit}");
    }
    let ended = Service::sandboxed().open_files(24).run().await;
    assert!(ended.code == 1 && ended.stderr.contains("the limit of open files is 24"), "{ended:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_begin_is_closed_and_its_neighbour_is_served() {
    let service = Service::start(&["--connections", "4"]).await;
    let mut peers = Vec::new();
    for start in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\n"] {
        let mut peer = TcpStream::connect(service.address()).await.unwrap();
        peer.write_all(start.as_bytes()).await.unwrap();
        peers.push(peer);
    }
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    for peer in &mut peers {
        assert!(closed(peer).await);
    }
}

#[tokio::test]
async fn an_http_1_client_is_told_what_the_port_speaks() {
    let service = Service::start(&[]).await;
    for request in ["GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", "POST / HTTP/1.1\r\n\r\nbody"] {
        let mut peer = TcpStream::connect(service.address()).await.unwrap();
        peer.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The answer is read to its end, so that a reset would be an error.
        patiently("an answer", peer.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
        assert!(answer.contains("gRPC") && answer.contains("--admin-listen"), "{answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_place() {
    let service = Service::start(&["--connections", "1"]).await;
    let mut first = service.client().await;
    first.get_profile_picture(about(CHAT)).await.unwrap();
    let second = tokio::spawn({
        let mut second = service.bare_client();
        async move { second.get_profile_picture(about(CHAT)).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!second.is_finished(), "there is no place yet");
    drop(first);
    patiently("a place", second).await.unwrap().unwrap();
}

fn path(service: &Service) -> String {
    format!("http://{}/hypersender.contact.v1.ContactService/GetProfilePicture", service.address())
}

/// Sends a request that no generated client can send.
async fn post(service: &Service, headers: &[(&str, &str)], body: &'static [u8]) -> Response<()> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut request = Request::post(path(service));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
    response.map(drop)
}

#[tokio::test]
async fn only_grpc_is_spoken() {
    let service = Service::start(&[]).await;
    for (content_type, expected) in [
        ("application/json", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/grpc-web", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/grpc+proto", StatusCode::OK),
    ] {
        let response = post(&service, &[("content-type", content_type)], b"").await;
        assert_eq!(response.status(), expected, "{content_type}");
    }
}

#[tokio::test]
async fn compressed_messages_are_not_taken() {
    let service = Service::start(&[]).await;
    let headers = [("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
    let response = post(&service, &headers, &[1, 0, 0, 0, 0]).await;
    let status = Status::from_header_map(response.headers()).map(|status| status.code());
    assert_eq!(status, Some(Code::Unimplemented));
    assert_eq!(response.headers()["grpc-accept-encoding"], "identity");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_for_good() {
    let service = Service::start(&[]).await;
    let status = service.client().await.get_profile_picture(about(&"1".repeat(17_000))).await.unwrap_err();
    let fault = Fault::from(&status);
    assert_eq!((fault.code, fault.reason.as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    assert_eq!(fault.pushback, Pushback::Never);
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once_and_health_never_is() {
    let upstream = Upstream::start([Reply::hang()]).await;
    let service = Service::asking(&upstream).flags(&["--in-flight", "1"]).start().await;
    let mut waiting = service.client().await;
    let waiting = tokio::spawn(async move { waiting.get_profile_picture(about(CHAT)).await });
    patiently("the first call", upstream.called(1)).await;

    let status = service.client().await.get_profile_picture(about("15551230002")).await.unwrap_err();
    let fault = Fault::from(&status);
    assert_eq!((fault.code, fault.reason.as_str()), (Code::Unavailable, "OVERLOADED"));
    assert!(matches!(fault.pushback, Pushback::Ms(_)), "{:?}", fault.pushback);
    service.health().await.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    waiting.abort();
}

/// Opens a connection that distinguishes unsent requests from lost ones, like the clients of gRPC (gRFC A6,
/// transparent retries).
async fn connect(service: &Service) -> SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(service.address()).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_no_call_is_lost() {
    let service = Service::start(&["--connection-age", "500ms"]).await;
    let mut connections = 0;
    while connections < 3 {
        let mut sender = connect(&service).await;
        connections += 1;
        while sender.ready().await.is_ok() {
            let request = Request::post(path(&service)).header(CONTENT_TYPE, "application/grpc");
            let request = request.body(Full::from(question())).unwrap();
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let body = response.into_body().collect().await.expect("the whole answer");
                    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
                    assert_eq!(status.map(HeaderValue::as_bytes), Some(&b"0"[..]));
                }
                Err(mut error) => assert!(error.take_message().is_some(), "lost: {}", error.into_error()),
            }
        }
    }
}
