//! The bounds of `StreamProfilePictures`, against the built service: a client that does not read or that
//! cancels, the number of streams, and their memory (rules 41, 42 and 46).

mod memory;
mod permission;
mod too_many;

use std::time::Duration;

use h2::RecvStream;
use http::Response;
use hypersender_grpc::grpc::{
    GET_PROFILE_PICTURE,
    contact::{
        CacheControl, StreamProfilePicturesRequest, StreamProfilePicturesResponse,
        profile_picture_result::Outcome, stream_profile_pictures_response::Event,
    },
};
use prost::Message;
use tonic::Code;

use crate::support::{Peer, Reply, Service, Upstream, about, framed, link, patiently, read};

const PATH: &str = "/hypersender.contact.v1.ContactService/StreamProfilePictures";
/// The phone number of the first contact.
const FIRST: u64 = 15_551_300_000;

/// A request for so many contacts, which no test asks for before.
fn stream(contacts: u64) -> StreamProfilePicturesRequest {
    let chat_ids = (FIRST..FIRST + contacts).map(|number| number.to_string()).collect();
    StreamProfilePicturesRequest { chat_ids, ..Default::default() }
}

async fn begin(peer: &mut Peer, contacts: u64) -> Response<RecvStream> {
    let message = framed(&stream(contacts).encode_to_vec());
    peer.call(PATH, message).await.begun().await.expect("the stream begins")
}

/// The messages in `bytes`, of which the last one may be incomplete.
fn events(bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let Some((message, after)) = after.split_at_checked(length) else { break };
        let message = StreamProfilePicturesResponse::decode(message).unwrap();
        events.push(message.event.expect("every message has an event"));
        rest = after;
    }
    events
}

/// The indices of the results in `bytes`.
fn indices(bytes: &[u8]) -> Vec<i32> {
    let index = |event| match event {
        Event::Result(result) => Some(result.index),
        Event::Progress(_) => None,
    };
    events(bytes).into_iter().filter_map(index).collect()
}

/// Checks that a whole stream has each index once.
fn assert_whole(bytes: &[u8]) {
    let mut indices = indices(bytes);
    indices.sort_unstable();
    assert!(indices.iter().copied().eq(0..1_000), "{indices:?}");
}

#[tokio::test]
async fn a_client_that_stops_reading_stops_the_look_ups() {
    const CONTACTS: u64 = 1_000;
    // At most 64 look-ups in progress and 64 results that are not written yet.
    const AFTER_FULL_MAX: usize = 128;
    let upstream = Upstream::start([Reply::picture(&link("1", 86_400))]).await;
    let service = Service::asking(&upstream).flags(&["--rate", "0"]).start().await;
    let mut peer = Peer::with_window(service.address(), 4_096).await;
    let mut response = begin(&mut peer, CONTACTS).await;
    let mut received = Vec::new();
    while received.len() < 4_096 {
        let data = patiently("a full window", response.body_mut().data()).await.unwrap().unwrap();
        received.extend(data);
    }
    let in_window = indices(&received).len();
    // The look-ups of the results that are not written.
    upstream.called(in_window + 64).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = upstream.calls();
    assert!(calls <= in_window + AFTER_FULL_MAX, "{calls} look-ups, {in_window} results in the window");

    // Its neighbours on the connection are served, another stream that is read among them.
    let unary = framed(&about(&FIRST.to_string()).encode_to_vec());
    assert_eq!(peer.call(GET_PROFILE_PICTURE, unary).await.answered().await.code(), Code::Ok);
    let message = framed(&stream(CONTACTS).encode_to_vec());
    let neighbour = peer.call(PATH, message).await.answered().await;
    assert_eq!(neighbour.code(), Code::Ok);
    assert_whole(&neighbour.message);

    // Once it reads, the stream goes on.
    response.body_mut().flow_control().release_capacity(received.len()).unwrap();
    let rest = read(response).await.unwrap();
    assert_eq!(rest.code(), Code::Ok);
    received.extend(rest.message);
    assert_whole(&received);
}

#[tokio::test]
async fn a_client_that_cancels_stops_the_look_ups_and_what_was_asked_is_stored() {
    const CONTACTS: u64 = 1_000;
    /// The permits on the wire that the streams of one instance share: a quarter of all.
    const ON_THE_WIRE: usize = 16;
    let upstream = Upstream::start([Reply::picture(&link("1", 86_400)).held()]).await;
    let service = Service::asking(&upstream).flags(&["--rate", "0"]).start().await;
    let mut peer = Peer::connect(service.address()).await;
    let response = begin(&mut peer, CONTACTS).await;
    upstream.called(ON_THE_WIRE).await;
    drop(response);
    service.counted("hypersender_streams", 0.0).await;
    upstream.release();
    // The look-ups on the wire end, and no other one starts.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(upstream.calls(), ON_THE_WIRE);
    let control = CacheControl { only_if_cached: true, ..Default::default() };
    let request = StreamProfilePicturesRequest { cache_control: Some(control), ..stream(CONTACTS) };
    let cached = peer.call(PATH, framed(&request.encode_to_vec())).await.answered().await;
    let pictures = events(&cached.message).into_iter().filter_map(|event| match event {
        Event::Result(result) => matches!(result.outcome, Some(Outcome::ProfilePicture(_))).then_some(()),
        Event::Progress(_) => None,
    });
    assert_eq!(pictures.count(), ON_THE_WIRE);
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_end_of_the_service() {
    let upstream = Upstream::start([Reply::picture(&link("1", 86_400))]).await;
    let flags = ["--rate", "0", "--drain-wait", "0s", "--drain-timeout", "1s"];
    let mut service = Service::asking(&upstream).flags(&flags).start().await;
    let mut peer = Peer::with_window(service.address(), 0).await;
    let response = begin(&mut peer, 1_000).await;
    upstream.called(64).await;
    service.signal("TERM").await;
    // No result fits into the window, and so neither do the trailers.
    assert_eq!(service.exit_code().await, 0);
    assert!(read(response).await.is_err());
}
