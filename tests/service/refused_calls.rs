//! Calls that are answered before the end of their request: the connection and the other calls on it
//! continue.

use std::fs;

use h2::Reason;
use http::Method;
use hypersender_grpc::grpc::GET_PROFILE_PICTURE as PATH;
use tempfile::NamedTempFile;
use tonic::{Code, Status};

use crate::support::{
    Fault, Peer, Pushback, Service, framed,
    frames::{DATA, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, frame, headers},
    patiently, question,
};

const TOKEN: &str = "Bearer Zq9mark-crm-4f1d";
/// Its SHA-256, by sha256sum.
const TOKEN_HASH: &str = "941aa06230ab13406106f3d7f5aee6d5a11dd39c009de0c6c4608e5aa3b27b1c";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const KNOWN: (&str, &str) = ("authorization", TOKEN);

/// A service with one caller. It logs at level `info`, because the debug log of h2 for thousands of calls
/// would dominate the running time.
async fn serve() -> (Service, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("[callers.crm]\ntoken_sha256 = \"{TOKEN_HASH}\"\ninstances = [\"*\"]\n"))
        .unwrap();
    let service = Service::sandboxed()
        .variable("HYPERSENDER_GRPC_CALLERS_FILE", file.path().to_str().unwrap())
        .variable("HYPERSENDER_GRPC_LOG", "info");
    (service.start().await, file)
}

/// A call that is answered before its request ends.
struct Refusal<'a> {
    what: &'a str,
    method: &'a str,
    path: &'a str,
    fields: &'a [(&'a str, &'a str)],
    /// The DATA frames that follow the headers at once.
    first: &'a [&'a [u8]],
}

/// Makes 400 calls, 20 at a time, on a connection with another call in progress. This is far more than the
/// 128 faults that h2 tolerates and the 50 resets that it remembers. The rest of each request follows its
/// answer.
async fn check(service: &Service, refusal: Refusal<'_>) {
    const ROUNDS: usize = 20;
    const CALLS: usize = 20;
    let Refusal { what, method, path, fields, first } = refusal;
    let mut peer = Frames::connect(service.address()).await;
    let neighbour = peer.stream();
    let patient = [GRPC, KNOWN, ("grpc-timeout", "30S")];
    peer.send(&headers(0, neighbour, "POST", PATH, &patient)).await;
    for round in 1..=ROUNDS {
        let streams: Vec<_> = (0..CALLS).map(|_| peer.stream()).collect();
        for &stream in &streams {
            peer.send(&headers(0, stream, method, path, fields)).await;
            for part in first {
                peer.send(&frame(DATA, 0, stream, part)).await;
            }
        }
        let answered = peer.until(HEADERS, true, round * CALLS).await;
        assert!(answered, "{what}: the connection ended in {:?} in round {round}", peer.end);
        for &stream in &streams {
            peer.send(&frame(DATA, END_STREAM, stream, b"1")).await;
        }
    }
    peer.send(&frame(DATA, END_STREAM, neighbour, &question())).await;
    assert!(peer.until(DATA, false, 1).await, "{what}: the other call was lost, {:?}", peer.end);
    assert!(peer.until(HEADERS, true, ROUNDS * CALLS + 1).await, "{what}: {:?}", peer.end);
    assert_eq!((peer.seen(RST_STREAM, false), peer.seen(GOAWAY, false)), (0, 0), "{what}");
}

#[tokio::test]
async fn any_number_of_refused_calls_leaves_their_connection_to_others() {
    let (service, _callers) = serve().await;
    let many: Vec<_> = (0..500).map(|index| (format!("x-{index}"), "1")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let many = [&[GRPC, KNOWN], &*many].concat();
    let filled = [&[0, 0, 0, 0x40, 0][..], &[b'1'; 16_000]].concat();
    let post = Refusal { what: "", method: "POST", path: PATH, fields: &[GRPC, KNOWN], first: &[] };
    for refusal in [
        Refusal { what: "no token", fields: &[GRPC], ..post },
        Refusal { what: "a token that nobody has", fields: &[GRPC, ("authorization", "Bearer 1")], ..post },
        Refusal { what: "an unknown method", path: "/a.B/C", ..post },
        Refusal { what: "another content type", fields: &[("content-type", "application/json")], ..post },
        Refusal { what: "another HTTP method", method: "PUT", ..post },
        Refusal { what: "too much metadata", fields: &many, ..post },
        Refusal { what: "a message that announces too much", first: &[&[0, 0, 0, 0x40, 1]], ..post },
        Refusal { what: "a message that is longer than it says", first: &[&filled, &[b'1'; 385]], ..post },
        Refusal { what: "a deadline", fields: &[GRPC, KNOWN, ("grpc-timeout", "20m")], ..post },
        Refusal {
            what: "compression that a method of tonic's does not know",
            path: HEALTH,
            fields: &[GRPC, ("grpc-encoding", "gzip")],
            ..post
        },
    ] {
        check(&service, refusal).await;
    }
}

#[tokio::test]
async fn a_client_that_sends_its_message_after_the_refusal_reads_the_true_status() {
    let (service, _callers) = serve().await;
    let mut peer = Peer::connect(service.address()).await;
    let short = ("grpc-timeout", "20m");
    for (path, fields, expected) in [
        (PATH, &[][..], Code::Unauthenticated),
        (PATH, &[("authorization", "Bearer 1")], Code::Unauthenticated),
        (PATH, &[KNOWN, short], Code::DeadlineExceeded),
        (HEALTH, &[("grpc-encoding", "gzip")], Code::Unimplemented),
        ("/a.B/C", &[], Code::Unimplemented),
    ] {
        let mut call = peer.announce(path, fields).await;
        let response = patiently("an answer", &mut call.response).await.unwrap();
        assert!(response.body().is_end_stream(), "{path}, {fields:?}");
        call.request.send_data(question(), true).expect("the stream has not been reset");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), expected, "{path}, {fields:?}");
    }
}

#[tokio::test]
async fn large_messages_that_are_refused_leave_their_connection_to_others() {
    let (service, _callers) = serve().await;
    let mut peer = Peer::connect(service.address()).await;
    let large = framed(&vec![0; 5 << 20]);
    for turn in 0..20 {
        let (code, reason) = peer.call_with(PATH, &[KNOWN], large.clone()).await.fault().await;
        assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "turn {turn}");
        let other = peer.call_with(PATH, &[KNOWN], question()).await.answered().await;
        assert_eq!(other.code(), Code::Ok, "turn {turn}");
    }
}

#[tokio::test]
async fn requests_that_never_end_give_way_to_the_next_calls() {
    const STREAMS_MAX: usize = 256;
    let (service, _callers) = serve().await;
    let mut peer = Frames::connect(service.address()).await;
    for _ in 0..STREAMS_MAX {
        let stream = peer.stream();
        peer.send(&headers(0, stream, "POST", PATH, &[GRPC])).await;
    }
    assert!(peer.until(HEADERS, true, STREAMS_MAX).await, "{:?}", peer.end);
    // The server resets each stream after its answer.
    assert!(peer.until(RST_STREAM, false, STREAMS_MAX).await, "{:?}", peer.end);
    let stream = peer.stream();
    let call = headers(0, stream, "POST", PATH, &[GRPC, KNOWN]);
    peer.send(&[call, frame(DATA, END_STREAM, stream, &question())].concat()).await;
    assert!(peer.until(DATA, false, 1).await, "{:?}", peer.end);
}

#[tokio::test]
async fn a_flood_of_data_for_closed_streams_still_ends_the_connection() {
    let (service, _callers) = serve().await;
    let mut peer = Frames::connect(service.address()).await;
    let streams: Vec<_> = (0..200).map(|_| peer.stream()).collect();
    for &stream in &streams {
        peer.send(&headers(END_STREAM, stream, "POST", PATH, &[GRPC])).await;
    }
    assert!(peer.until(HEADERS, true, streams.len()).await, "{:?}", peer.end);
    for &stream in &streams {
        peer.send(&frame(DATA, 0, stream, b"1")).await;
    }
    assert!(peer.until(GOAWAY, false, 1).await, "the connection ended without a reason");
    assert_eq!(peer.end, Some(Reason::ENHANCE_YOUR_CALM.into()));
}

#[tokio::test]
async fn only_post_makes_a_call() {
    let (service, _callers) = serve().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}{PATH}", service.address());
    for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::HEAD, Method::DELETE] {
        let request = client.request(method.clone(), &url).header("content-type", "application/grpc");
        let response = request.header("authorization", TOKEN).body(question()).send().await.unwrap();
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()["allow"], "POST", "{method}");
    }
}

#[tokio::test]
async fn metadata_up_to_16_kib_is_taken_and_more_is_refused_for_good() {
    let (service, _callers) = serve().await;
    let mut peer = Peer::connect(service.address()).await;
    for (bytes, expected) in
        [(15_000, None), (17_000, Some("METADATA_TOO_LARGE")), (31_000, Some("METADATA_TOO_LARGE"))]
    {
        let large = "1".repeat(bytes);
        let call = peer.call_with(PATH, &[KNOWN, ("x-large", &large)], question()).await;
        let status = call.answered().await.status();
        match expected {
            None => assert_eq!(status.code(), Code::Ok, "{bytes} bytes"),
            Some(expected) => {
                let fault = Fault::from(&status);
                assert_eq!(
                    (fault.code, fault.reason.as_str()),
                    (Code::ResourceExhausted, expected),
                    "{bytes} bytes"
                );
                assert_eq!(fault.pushback, Pushback::Never, "{bytes} bytes");
            }
        }
    }
    // From 32 KiB on, the HTTP/2 library answers by itself.
    let large = "1".repeat(33_000);
    let response =
        peer.call_with(PATH, &[KNOWN, ("x-large", &large)], question()).await.begun().await.unwrap();
    assert_eq!(response.status(), 431);
    assert_eq!(peer.call_with(PATH, &[KNOWN], question()).await.answered().await.code(), Code::Ok);
}
