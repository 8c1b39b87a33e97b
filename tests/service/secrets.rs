//! Tokens, numbers and links never get into logs, metrics or status texts, at any log level. The end of every
//! process in any test includes a search for them. In this file, Hypersender and callers send them wherever
//! they can.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hypersender_grpc::grpc::contact::GetProfilePictureRequest;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::Request;

use crate::support::{
    Authority, Launch, Listener, Reply, Service, Upstream, about,
    frames::{ACK, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, frame, read},
    https, marks, patiently,
};

const TOKEN: &str = "7|Zq9mark-of-upstream";
const NUMBER: &str = "4917099887766";
const SIGNATURE: &str = "01_Q5AaMarkedSignature";
const FILE: &str = "778899001122";
const WORDS: &str = "Marked words of upstream";

fn marked_link() -> String {
    format!("https://pps.whatsapp.net/v/t61.24694-24/{FILE}_n.jpg?oh={SIGNATURE}&oe=7FFFFFFF")
}

fn replies() -> Vec<Reply> {
    let words = |status: u16| Reply::json(status, format!(r#"{{"message":"{WORDS} {NUMBER} {TOKEN}"}}"#));
    let link = marked_link();
    let jid = format!(r#"{{"errors":{{"messages":["{WORDS}"],"jid":"{NUMBER}@c.us","exists":false}}}}"#);
    let mut replies: Vec<_> = [200, 400, 401, 403, 404, 500, 502, 503].map(words).into();
    replies.extend([
        words(429).header("Retry-After", 60),
        Reply::picture(&link),
        Reply::picture(&link.replace("7FFFFFFF", "1")),
        Reply::picture(&link.replace("https", "ftp")),
        Reply::picture(&format!("{link} {WORDS}")),
        Reply::json(200, r#"{"data":{"profilePictureURL":null}}"#),
        Reply::json(200, format!(r#"{{"data":{{"profilePictureURL":["{link}"]}}}}"#)),
        Reply::json(200, format!(r#"{{"data":"{link}"#)),
        Reply::json(202, format!(r#"{{"queued":true,"queued_request_link":"{link}"}}"#)),
        Reply::json(422, jid),
        Reply::json(422, format!(r#"{{"session":"{NUMBER}","status":"{WORDS}"}}"#)),
        Reply::html(302).header("Location", &link),
        Reply::picture(&link).header("s-request-id", WORDS),
        Reply::picture(&link).header("Set-Cookie", TOKEN),
        Reply::picture(&link).half(),
        Reply::raw(format!("{WORDS} {NUMBER}\r\n\r\n")).closing(),
        Reply::cut(),
        Reply::reset(),
    ]);
    replies
}

#[test]
fn a_leak_is_found_in_all_its_forms() {
    for text in [
        &format!("x\nbearer {TOKEN}\n"),
        "chat_id=4917099887766%40c.us",
        "7%7CZq9mark-of-upstream",
        "[52, 57, 49, 55, 48, 57, 57, 56, 56, 55, 55, 54, 54]",
        "34393137303939383837373636",
        "path=/v/t61.24694-24/778899001122_n.jpg",
    ] {
        assert!(marks::any_in(text).is_some(), "{text}");
    }
    assert_eq!(marks::any_in("key=5f0a33c1\nstatus=429"), None);
}

/// Makes calls of one service and stops it, so that it is searched.
async fn check(launch: Launch, hurry: bool) {
    let mut service = launch.start().await;
    let mut client = service.client().await;
    for chat_id in
        [NUMBER.to_owned(), format!("{NUMBER}@lid"), format!("{NUMBER}x"), format!("+{NUMBER}@C.US")]
    {
        let mut request = Request::new(about(&chat_id));
        if hurry {
            request.set_timeout(Duration::from_millis(300));
        }
        if let Err(status) = client.get_profile_picture(request).await {
            marks::assert_none_in(&status);
        }
    }
    let request = GetProfilePictureRequest { instance: format!("/{NUMBER}"), ..about(NUMBER) };
    let status = client.get_profile_picture(request).await.unwrap_err();
    marks::assert_none_in(&status);
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0);
}

#[tokio::test]
async fn no_answer_of_upstream_brings_a_secret_into_logs_or_errors() {
    let checks = replies().into_iter().map(|reply| async {
        let upstream = Upstream::start([reply]).await;
        check(Service::asking(&upstream).flags(&["--attempts", "2"]), false).await;
    });
    join_all(checks).await;
}

#[tokio::test]
async fn no_upstream_at_all_does_either() {
    check(Service::asking_at("http://127.0.0.1:9/"), false).await;
    let upstream = Upstream::start([Reply::hang()]).await;
    check(Service::asking(&upstream), true).await;
    check(Service::asking(&upstream).flags(&["--attempt-timeout", "100ms"]), false).await;
    check(Service::sandboxed(), false).await;
}

#[tokio::test]
async fn nor_does_tls() {
    let [trust, other] = [Authority::new(), Authority::new()];
    let file = trust.file();
    for authority in [&trust, &other] {
        let upstream =
            Upstream::start_tls([Reply::picture(&marked_link())], authority.server("localhost", false));
        let launch = Service::asking(&upstream.await);
        check(launch.variable("SSL_CERT_FILE", file.path().to_str().unwrap()), false).await;
    }
}

/// A header whose name is an index of HPACK's static table and whose value is neither compressed nor indexed.
fn header(name: u8, value: &str) -> Vec<u8> {
    let name: &[u8] = if name < 15 { &[name] } else { &[15, name - 15] };
    [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
}

#[tokio::test]
async fn nor_does_a_caller_that_breaks_the_protocol() {
    const AUTHORITY: u8 = 1;
    const PATH: u8 = 4;
    const AUTHORIZATION: u8 = 23;
    let service = Service::sandboxed().start().await;
    let bearer = header(AUTHORIZATION, &format!("Bearer {TOKEN}"));
    let post = [0x83, 0x86];
    for headers in [
        [&post[..], &header(PATH, &format!("/a {NUMBER}")), &bearer].concat(),
        [&post[..], &header(PATH, "/a"), &header(AUTHORITY, &format!("a {NUMBER}")), &bearer].concat(),
        [&post[..], &header(PATH, "/a"), &bearer, &header(PATH, &format!("/{NUMBER}"))].concat(),
        [&header(AUTHORIZATION, NUMBER)[..], &post, &bearer].concat(),
        [&post[..], &header(PATH, &format!("/{NUMBER}?chat_id={NUMBER}")), &bearer].concat(),
    ] {
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        let call = frame(HEADERS, END_STREAM | END_HEADERS, 1, &headers);
        let frames = [frame(SETTINGS, 0, 0, &[]), call, frame(PING, 0, 0, &[0; 8])];
        stream.write_all(&[PREFACE, &frames.concat()].concat()).await.unwrap();
        let answered = async {
            while let Ok(frame) = read(&mut stream).await {
                if (frame.kind, frame.flags) == (PING, ACK) {
                    break;
                }
            }
        };
        patiently("an answer or the end of the connection", answered).await;
    }
}

/// Starts a Hypersender over HTTP/2 that sends marks in its headers and its body.
async fn start_http2(authority: &Authority) -> Listener {
    let mut tls = authority.server("localhost", false);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(tls));
    let answer = |_| async {
        let body = format!(r#"{{"data":{{"profilePictureURL":"{}"}}}}"#, marked_link());
        let head = Response::builder().header("Content-Type", "application/json");
        let head = head.header("Set-Cookie", TOKEN).header("s-request-id", NUMBER);
        head.body(Full::<Bytes>::from(body))
    };
    Listener::start(move |socket| {
        let tls = tls.clone();
        async move {
            let stream = TokioIo::new(tls.accept(socket).await.unwrap());
            let connection = http2::Builder::new(TokioExecutor::new());
            connection.serve_connection(stream, service_fn(answer)).await
        }
    })
    .await
}

#[tokio::test]
async fn nor_does_http_2() {
    let authority = Authority::new();
    let (file, upstream) = (authority.file(), start_http2(&authority).await);
    let launch =
        Service::asking_at(&https(upstream.port())).variable("SSL_CERT_FILE", file.path().to_str().unwrap());
    let service = launch.start().await;
    let answer = service.client().await.get_profile_picture(about(NUMBER)).await.unwrap();
    assert_eq!(answer.into_inner().profile_picture.unwrap().url, marked_link());
}
