//! The memory of streams whose contacts wait for their turns.

use hypersender_grpc::grpc::contact::{
    StreamProfilePicturesResponse, stream_profile_pictures_response::Event,
};
use prost::Message;
use tonic::Streaming;

use super::{FIRST, stream};
use crate::support::{Client, Service, about, patiently};

const MIB: u64 = 1_024 * 1_024;

/// The number of contacts of each stream, which the server has not cached, except the last one.
const CONTACTS: u64 = 10_000;

/// Begins streams one after the other, each when the one before it has looked at all contacts.
async fn begin(client: &mut Client, streams: usize) -> Vec<Streaming<StreamProfilePicturesResponse>> {
    let mut open = Vec::new();
    for _ in 0..streams {
        let begun = patiently("the head of a stream", client.stream_profile_pictures(stream(CONTACTS))).await;
        let mut messages = begun.unwrap().into_inner();
        loop {
            let message = patiently("a message", messages.message()).await.unwrap().unwrap();
            let Some(Event::Result(result)) = message.event else { continue };
            // The last contact is cached. Its result shows that the stream has looked at all others.
            if u64::try_from(result.index).unwrap() == CONTACTS - 1 {
                break;
            }
        }
        open.push(messages);
    }
    open
}

/// The memory that each of some streams of a new service takes.
async fn memory_of_a_stream() -> u64 {
    const STREAMS: usize = 24;
    let service = Service::start(&["--rate", "1", "--burst", "1", "--streams-per-instance", "64"]).await;
    let mut client = service.client().await;
    client.get_profile_picture(about(&(FIRST + CONTACTS - 1).to_string())).await.unwrap();
    // The allocator keeps the memory that the first streams needed for a moment, and uses it again.
    let first = begin(&mut client, 8).await;
    let before = service.resident_bytes();
    let further = begin(&mut client, STREAMS).await;
    let each = service.resident_bytes().saturating_sub(before) / u64::try_from(STREAMS).unwrap();
    drop((first, further));
    each
}

#[tokio::test]
async fn ten_thousand_cold_contacts_take_two_mebibytes_beside_their_request() {
    const TRIES: usize = 3;
    let request_bytes = u64::try_from(stream(CONTACTS).encoded_len()).unwrap();
    let mut seen = Vec::new();
    // The allocator gives back memory at times of its own, so that one measurement may be half as much again.
    for _ in 0..TRIES {
        let each = memory_of_a_stream().await;
        if each <= request_bytes + 2 * MIB {
            return;
        }
        seen.push(each);
    }
    panic!("{seen:?} bytes for a stream, {request_bytes} of them its request");
}
