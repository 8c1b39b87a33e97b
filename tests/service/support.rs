//! The tools that all tests share: the service as a process, Hypersender as a script, clients, and the parts
//! of errors.

mod collector;
mod fault;
mod files;
pub mod frames;
mod http2;
mod listener;
mod peer;
mod process;
mod proxy;
mod relay;
mod results;
mod samples;
mod scripted_streams;
mod service;
mod tls;
mod upstream;
#[path = "../../src/stack/store/testing.rs"]
mod valkey;

use std::time::SystemTime;

use bytes::Bytes;
use hypersender_grpc::grpc::contact::{GetProfilePictureRequest, GetProfilePictureResponse, ProfilePicture};
use prost::Message;
use tokio::net::TcpListener;

pub use self::{
    collector::{Collector, attribute, attributes, is_error, is_server},
    fault::{Fault, Pushback, Refusal, refusal},
    files::Files,
    http2::{Habit, Http2, https},
    listener::Listener,
    peer::{Call, Peer, framed, read},
    process::{Ended, Launch, PATIENCE, Sink, marks, patiently},
    proxy::{Proxy, Speech},
    relay::{Death, Relay},
    results::summary,
    samples::{Samples, calls},
    scripted_streams::{End, ScriptedStreams},
    service::{Client, Service},
    tls::{Authority, Identity, connect},
    upstream::{Reply, Upstream},
    valkey::Server as Valkey,
};

/// The token that the service under test has for Hypersender.
pub const TOKEN: &str = "1|Zq9mark-test-token";
/// The default instance of the service under test.
pub const INSTANCE: &str = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
/// A contact whose number has no special meaning, neither to a script nor to the sandbox.
pub const CHAT: &str = "15551230001";
/// The full name of the gRPC service.
pub const CONTACTS: &str = "hypersender.contact.v1.ContactService";

/// The vendor's documented answer with a picture, to the byte. The link expired on 2026-01-21.
pub const DOCUMENTED_PICTURE: &str = r#"{"message":"Profile picture retrieved successfully.","data":{"profilePictureURL":"https://pps.whatsapp.net/v/t61.24694-24/374498176_337577482181161_7091117586184162691_n.jpg?ccb=11-4&oh=01_Q5Aa3gEERUGD4fegyplSv2MnHmt_UIA9JnpjREhSJMNVWZC-RA&oe=6970FAAA&_nc_sid=5e03e0&_nc_cat=104"}}"#;
/// The vendor's documented answer without a picture, to the byte.
pub const DOCUMENTED_ABSENCE: &str =
    r#"{"message":"Profile picture not available.","data":{"profilePictureURL":null}}"#;

/// An address of this machine on which no program listens.
pub async fn closed_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// A request for the picture of `chat_id`, addressed to the default instance.
pub fn about(chat_id: &str) -> GetProfilePictureRequest {
    GetProfilePictureRequest { chat_id: chat_id.to_owned(), ..Default::default() }
}

/// The message of a valid call, with its length prefix.
pub fn question() -> Bytes {
    framed(&about(CHAT).encode_to_vec())
}

/// The picture in a response, which every response has.
pub fn picture(response: &GetProfilePictureResponse) -> &ProfilePicture {
    response.profile_picture.as_ref().expect("every response has a picture")
}

/// A link to the picture `name` that expires in `life_seconds`.
pub fn link(name: &str, life_seconds: i64) -> String {
    link_until(name, unix_seconds().saturating_add_signed(life_seconds))
}

/// A link to the picture `name` that expires at `end`, in Unix seconds.
pub fn link_until(name: &str, end: u64) -> String {
    let file = format!("{name}_337577482181161_7091117586184162691_n.jpg");
    format!("https://pps.whatsapp.net/v/t61.24694-24/{file}?ccb=11-4&oh=01_Q5Aa&oe={end:X}&_nc_cat=104")
}

/// The wall clock in Unix seconds, the unit of the expiry in a link.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("the clock shows a time after 1970").as_secs()
}
