//! The message of a call: it may arrive in pieces, late or never, and it must be valid.

use bytes::Bytes;
use futures_util::future::join_all;
use hypersender_grpc::grpc::GET_PROFILE_PICTURE as PATH;
use tokio::task::yield_now;
use tonic::Code;

use crate::support::{CONTACTS, Call, Peer, Service, calls as calls_of, framed, question};

#[tokio::test]
async fn a_message_may_come_in_pieces() {
    let service = Service::start(&[]).await;
    let mut peer = Peer::connect(service.address()).await;
    for size in [1, 3, 5, 6, 100] {
        let mut call = peer.announce(PATH, &[]).await;
        // A later call is answered first.
        assert_eq!(peer.call(PATH, question()).await.answered().await.code(), Code::Ok);
        for piece in question().chunks(size) {
            call.request.send_data(Bytes::copy_from_slice(piece), false).unwrap();
            yield_now().await;
        }
        call.request.send_data(Bytes::new(), true).unwrap();
        let answer = call.answered().await;
        assert_eq!(answer.code(), Code::Ok, "pieces of {size}");
        assert!(answer.message.len() > 100, "pieces of {size}");
    }
}

#[tokio::test]
async fn calls_that_are_only_announced_take_no_place() {
    let service = Service::start(&["--in-flight", "1"]).await;
    let mut silent = Peer::connect(service.address()).await;
    let mut announced = Vec::new();
    for index in 0..200 {
        let mut call = silent.announce(PATH, &[]).await;
        if index % 2 == 1 {
            call.request.send_data(question().slice(..question().len() - 1), false).unwrap();
        }
        announced.push(call);
    }
    // This call is answered although the server received all announced calls before it.
    assert_eq!(silent.call(PATH, question()).await.answered().await.code(), Code::Ok);
    let mut other = Peer::connect(service.address()).await;
    assert_eq!(other.call(PATH, question()).await.answered().await.code(), Code::Ok);
    // The announced calls are still open, too.
    let last = announced.last_mut().unwrap();
    last.request.send_data(question().slice(question().len() - 1..), true).unwrap();
    assert_eq!(announced.pop().unwrap().answered().await.code(), Code::Ok);
}

#[tokio::test]
async fn announcements_of_large_messages_displace_no_other_call() {
    const CALLS: u16 = 1_000;
    /// The most calls in progress on one connection.
    const ON_ONE_CONNECTION: u16 = 250;
    const LARGE: &str = "/hypersender.contact.v1.ContactService/StreamProfilePictures";
    let service = Service::start(&[]).await;
    let mut calls = Vec::new();
    while calls.len() < usize::from(CALLS) {
        let mut peer = Peer::connect(service.address()).await;
        for _ in 0..ON_ONE_CONNECTION {
            let mut call = peer.announce(PATH, &[("grpc-timeout", "25S")]).await;
            // The calls wait for the rest of their messages.
            call.request.send_data(question().slice(..5), false).unwrap();
            calls.push(call);
        }
    }
    let started = |kind, method| calls_of("grpc_server_started_total", kind, CONTACTS, method, None);
    service.counted(&started("unary", "GetProfilePicture"), f64::from(CALLS)).await;
    let mut announced = Vec::new();
    for _ in 0..30 {
        let mut peer = Peer::connect(service.address()).await;
        let mut call = peer.announce(LARGE, &[]).await;
        // The prefix of a message of 2 MiB.
        call.request.send_data(Bytes::from_static(&[0, 0, 0x20, 0, 0]), false).unwrap();
        announced.push((peer, call));
    }
    service.counted(&started("server_stream", "StreamProfilePictures"), 30.0).await;
    for call in &mut calls {
        call.request.send_data(question().slice(5..), true).unwrap();
    }
    // All are read at the same time, because they share the windows of their connections.
    let answers = join_all(calls.into_iter().map(Call::answered)).await;
    let refused = answers.iter().filter(|answer| answer.code() != Code::Ok).count();
    assert_eq!(refused, 0, "of {CALLS}");
}

#[tokio::test]
async fn what_is_no_message_is_told_so() {
    let service = Service::start(&[]).await;
    let mut peer = Peer::connect(service.address()).await;
    let whole = question();
    let longer = [&whole, &b"1"[..]].concat();
    let twice = [&*whole, &*whole].concat();
    let invalid = (Code::Internal, "MESSAGE_INVALID");
    let compressed = (Code::Unimplemented, "COMPRESSION_UNSUPPORTED");
    for (row, encoding, body, expected) in [
        ("nothing", "identity", &b""[..], invalid),
        ("half a prefix", "identity", &whole[..3], invalid),
        ("half a message", "identity", &whole[..whole.len() - 1], invalid),
        ("more than a message", "identity", &longer, invalid),
        ("two messages", "identity", &twice, invalid),
        ("no protobuf", "identity", &framed(b"\xff\xff\xff"), invalid),
        ("a number for a string", "identity", &framed(b"\x10\x01"), invalid),
        ("no UTF-8", "identity", &framed(b"\x12\x01\xff"), invalid),
        ("compressed without an encoding", "identity", b"\x01\0\0\0\0", invalid),
        ("compressed", "gzip", b"\x01\0\0\0\0", compressed),
        ("an encoding that nobody knows", "made-up", &whole, compressed),
    ] {
        let call = peer.call_with(PATH, &[("grpc-encoding", encoding)], Bytes::copy_from_slice(body)).await;
        let (code, reason) = call.fault().await;
        assert_eq!((code, reason.as_str()), expected, "{row}");
    }
    assert_eq!(peer.call(PATH, whole).await.answered().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_message_is_there_has_canceled() {
    let service = Service::start(&[]).await;
    let unary = |metric, code| calls_of(metric, "unary", CONTACTS, "GetProfilePicture", code);
    let started = unary("grpc_server_started_total", None);
    let canceled = unary("grpc_server_handled_total", Some("Canceled"));
    let mut peer = Peer::connect(service.address()).await;
    for (number, piece) in [(1.0, 0), (2.0, 3)] {
        let mut call = peer.announce(PATH, &[]).await;
        call.request.send_data(question().slice(..piece), false).unwrap();
        service.counted(&started, number).await;
        call.cancel();
        service.counted(&canceled, number).await;
    }
}
