//! Batches: calls that arrive together on one connection begin together, and no call affects another. The
//! other call may wait, panic, be cancelled, have an empty window, or arrive when the connection gets its
//! GOAWAY.

mod scripted;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use h2::Reason;
use hypersender_grpc::grpc::GET_PROFILE_PICTURE;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use self::scripted::{LARGE, SCRIPT, Scripted};
use crate::support::{
    CHAT, Call, Client, Peer, Reply, Service, Upstream, about, framed, link, patiently, question, read,
};

/// The message of the call with this number.
fn numbered(number: u32) -> Bytes {
    framed(&number.to_be_bytes())
}

/// Begins a call that the server answers by `script`.
async fn call(peer: &mut Peer, script: &str, number: u32) -> Call {
    peer.call_with(GET_PROFILE_PICTURE, &[(SCRIPT, script)], numbered(number)).await
}

/// Begins calls with different messages, from `first` on.
async fn begin(peer: &mut Peer, script: &str, first: u32, count: u32) -> Vec<Call> {
    let mut calls = Vec::new();
    for number in first..first + count {
        calls.push(call(peer, script, number).await);
    }
    calls
}

/// Checks that each of the calls, numbered from `first` on, gets its own answer.
async fn assert_answered(calls: Vec<Call>, first: u32) {
    let answers = join_all(calls.into_iter().map(Call::answered)).await;
    for (number, answer) in (first..).zip(answers) {
        assert_eq!(answer.message, numbered(number));
        assert_eq!(answer.code(), Code::Ok);
    }
}

#[tokio::test]
async fn what_can_be_answered_does_not_wait_for_what_cannot() {
    let server = Scripted::start().await;
    let mut peer = Peer::connect(server.address).await;
    let (mut waiting, mut ready) = (Vec::new(), Vec::new());
    for number in 0..100 {
        waiting.extend(begin(&mut peer, "wait", number, 1).await);
        ready.extend(begin(&mut peer, "now", 1_000 + number, 1).await);
    }
    assert_answered(ready, 1_000).await;
    server.waiting(100).await;
    server.release();
    assert_answered(waiting, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_are_answered_each_with_its_own() {
    const CALLS: u32 = 2_000;
    let server = Scripted::start().await;
    let mut connections = JoinSet::new();
    for seed in 0..4 {
        let mut peer = Peer::connect(server.address).await;
        connections.spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut calls = FuturesUnordered::new();
            let mut answered = 0;
            for number in 0..CALLS {
                let script = ["now", "now", "soon", "late"][random.random_range(0..4)];
                let call = call(&mut peer, script, number).await;
                calls.push(
                    async move { assert_eq!(call.answered().await.message, numbered(number), "{script}") },
                );
                // A random limit of the calls in flight makes bursts of all lengths.
                while calls.len() > random.random_range(0..200) {
                    calls.next().await;
                    answered += 1;
                }
            }
            answered + calls.count().await
        });
    }
    assert_eq!(connections.join_all().await, vec![CALLS as usize; 4]);
}

#[tokio::test]
async fn a_cancelled_call_ends_alone() {
    let server = Scripted::start().await;
    let mut peer = Peer::connect(server.address).await;
    let mut calls = begin(&mut peer, "wait", 0, 10).await;
    server.waiting(10).await;
    calls.pop().unwrap().cancel();
    server.waiting(9).await;
    let ready = begin(&mut peer, "now", 100, 10).await;
    assert_answered(ready, 100).await;
    server.release();
    assert_answered(calls, 0).await;
}

#[tokio::test]
async fn calls_end_with_their_connection_and_no_other() {
    let server = Scripted::start().await;
    let mut stays = Peer::connect(server.address).await;
    let staying = begin(&mut stays, "wait", 0, 5).await;
    let mut leaves = Peer::connect(server.address).await;
    let _leaving = begin(&mut leaves, "wait", 100, 50).await;
    server.waiting(55).await;
    leaves.close().await;
    server.waiting(5).await;
    server.release();
    assert_answered(staying, 0).await;
}

#[tokio::test]
async fn whoever_leaves_gives_the_place_back() {
    let upstream = Upstream::start([Reply::hang()]).await;
    let flags = ["--in-flight", "1", "--deadline", "30s", "--attempt-timeout", "15s"];
    let service = Service::asking(&upstream).flags(&flags).start().await;
    // A call without a chat id takes a permit and is then refused at once.
    let (question, nothing) = (question(), framed(b""));
    let mut neighbour = Peer::connect(service.address()).await;
    for closes in [false, true] {
        let mut peer = Peer::connect(service.address()).await;
        let reason =
            async |peer: &mut Peer| peer.call(GET_PROFILE_PICTURE, nothing.clone()).await.fault().await.1;
        let taken = async {
            loop {
                let call = peer.call(GET_PROFILE_PICTURE, question.clone()).await;
                if reason(&mut neighbour).await == "OVERLOADED" {
                    break call;
                }
                // Otherwise the neighbour had the permit, and this call was refused.
            }
        };
        let call = patiently("the place to be taken", taken).await;
        if closes {
            peer.close().await;
        } else {
            call.cancel();
        }
        let free = async { while reason(&mut neighbour).await == "OVERLOADED" {} };
        patiently("the place to be free", free).await;
    }
}

#[tokio::test]
async fn calls_whose_connection_ends_before_they_begin_give_their_places_back() {
    let service = Service::start(&["--in-flight", "4"]).await;
    let question = question();
    for _ in 0..20 {
        let mut peer = Peer::connect(service.address()).await;
        // The test waits for no call, so that the server gets all of them in one read.
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(peer.call(GET_PROFILE_PICTURE, question.clone()).await);
        }
        peer.end_by_connect();
        let _ = peer.ended().await;
    }
    let mut neighbour = Peer::connect(service.address()).await;
    let answer = neighbour.call(GET_PROFILE_PICTURE, question).await.answered().await;
    assert_eq!(answer.code(), Code::Ok);
}

#[tokio::test]
async fn a_panic_ends_one_call_alone() {
    let server = Scripted::start().await;
    let mut peer = Peer::connect(server.address).await;
    for (script, expected) in [
        ("panic/call", Ok(Code::Internal)),
        ("panic/first", Ok(Code::Internal)),
        ("panic/later", Ok(Code::Internal)),
        // The trailers of a stream report the panic. Other bodies have no code of their own that could panic.
        ("panic/stream", Ok(Code::Internal)),
        ("panic/body", Err(Reason::CANCEL)),
        ("panic/body-later", Err(Reason::CANCEL)),
    ] {
        // The test does not wait in between, so that the calls are written together.
        let before = begin(&mut peer, "now", 0, 5).await;
        let panics = begin(&mut peer, script, 5, 1).await.remove(0);
        let after = begin(&mut peer, "now", 6, 5).await;
        let told = panics.answer().await.map(|answer| answer.code());
        let told = told.map_err(|error| error.reason().expect("a reset of the stream"));
        assert_eq!(told, expected, "{script}");
        assert_answered(before, 0).await;
        assert_answered(after, 6).await;
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_reset_alone() {
    let server = Scripted::start().await;
    // The window of one stream, far smaller than that of the connection.
    let mut peer = Peer::with_window(server.address, 1_000).await;
    let unread = call(&mut peer, "stream", 1).await.begun().await.unwrap();
    server.waiting(1).await;
    let before = begin(&mut peer, "now", 0, 5).await;
    assert_answered(before, 0).await;
    server.release();
    server.waiting(0).await;
    let after = begin(&mut peer, "now", 6, 5).await;
    assert_answered(after, 6).await;
    assert_eq!(read(unread).await.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn calls_in_flight_outlive_the_age_of_their_connection() {
    let server = Scripted::start_with(Some(Duration::from_millis(100))).await;
    let mut peer = Peer::connect(server.address).await;
    let calls = begin(&mut peer, "wait", 0, 20).await;
    server.waiting(20).await;
    peer.told_to_go().await;
    server.release();
    assert_answered(calls, 0).await;
    peer.ended().await.unwrap();
}

#[tokio::test]
async fn calls_in_flight_are_answered_by_a_server_that_stops() {
    let server = Scripted::start().await;
    let mut peer = Peer::connect(server.address).await;
    let calls = begin(&mut peer, "wait", 0, 20).await;
    server.waiting(20).await;
    let stopping = server.stop();
    peer.told_to_go().await;
    stopping.release();
    assert_answered(calls, 0).await;
    peer.ended().await.unwrap();
    stopping.ended().await;
}

#[tokio::test]
async fn answers_wait_for_a_window_and_nothing_else_does() {
    let server = Scripted::start().await;
    let mut closed = Peer::with_window(server.address, 0).await;
    let calls = begin(&mut closed, "now", 0, 50).await;
    let mut begun = Vec::new();
    for call in calls {
        begun.push(call.begun().await.unwrap());
    }
    // An answer that consists of headers needs no window.
    let refused = begin(&mut closed, "panic/first", 50, 1).await.remove(0);
    assert_eq!(refused.answered().await.code(), Code::Internal);
    let mut other = Peer::connect(server.address).await;
    let ready = begin(&mut other, "now", 100, 50).await;
    assert_answered(ready, 100).await;

    closed.open(65_535);
    let later = begin(&mut closed, "now", 200, 50).await;
    for (number, response) in (0..).zip(begun) {
        let answer = read(response).await.unwrap();
        assert_eq!((answer.message.as_slice(), answer.code()), (&numbered(number)[..], Code::Ok));
    }
    assert_answered(later, 200).await;
}

#[tokio::test]
async fn an_answer_larger_than_its_window_comes_piece_by_piece() {
    const WINDOW: u32 = 1_000;
    let server = Scripted::start().await;
    let mut peer = Peer::with_window(server.address, WINDOW).await;
    let large = begin(&mut peer, "large", 0, 1).await.remove(0).begun().await.unwrap();
    let stalled = begin(&mut peer, "large", 0, 1).await.remove(0).begun().await.unwrap();
    let beside = begin(&mut peer, "now", 100, 10).await;
    let (mut body, mut bytes) = (large.into_body(), 0);
    while let Some(data) = patiently("a piece", body.data()).await {
        let data = data.unwrap();
        assert!(data.len() <= WINDOW as usize);
        bytes += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(bytes, LARGE);
    assert_answered(beside, 100).await;
    let beside = begin(&mut peer, "now", 200, 10).await;
    assert_answered(beside, 200).await;
    assert_eq!(read(stalled).await.unwrap().message.len(), LARGE);
}

#[tokio::test]
async fn a_call_whose_time_is_up_ends_beside_those_that_are_answered() {
    let server = Scripted::start().await;
    let mut peer = Peer::connect(server.address).await;
    let mut ended = Vec::new();
    let mut ready = Vec::new();
    for number in 0..10 {
        let fields = [(SCRIPT, "wait"), ("grpc-timeout", "200m")];
        ended.push(peer.call_with(GET_PROFILE_PICTURE, &fields, numbered(number)).await);
        ready.extend(begin(&mut peer, "now", 100 + number, 1).await);
    }
    let waits = begin(&mut peer, "wait", 0, 1).await;
    assert_answered(ready, 100).await;
    for call in ended {
        assert_eq!(call.fault().await, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    }
    server.waiting(1).await;
    server.release();
    assert_answered(waits, 0).await;
}

#[tokio::test]
async fn streams_go_on_beside_calls() {
    let upstream = Upstream::start([Reply::picture(&link("374498176", 24 * 60 * 60))]).await;
    let mut service = Service::asking(&upstream).start().await;
    // Clones of a channel share its connection.
    let channel = service.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert!(watch.message().await.unwrap().is_some());

    let (ask, mut asked) = mpsc::channel(1);
    let asked = stream::poll_fn(move |context| asked.poll_recv(context));
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let told = reflection.server_reflection_info(asked).await.unwrap();
    let mut told = told.into_inner();
    for _ in 0..20 {
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let mut client = Client::new(channel.clone());
            calls.spawn(async move { client.get_profile_picture(about(CHAT)).await.unwrap() });
        }
        let services = Some(MessageRequest::ListServices(String::new()));
        ask.send(ServerReflectionRequest { message_request: services, ..Default::default() }).await.unwrap();
        let list = patiently("the list of services", told.message()).await.unwrap().unwrap();
        assert!(list.message_response.is_some());
        patiently("the calls beside the streams", calls.join_all()).await;
    }
    // The watch is still open after all calls.
    service.signal("INT").await;
    assert!(patiently("what the watch tells", watch.message()).await.unwrap().is_some());
    assert_eq!(service.exit_code().await, 0);
}
