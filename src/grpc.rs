//! The contract: generated types, the services for them, and the status codes that callers see.

mod avatar_address;
mod backend;
mod batch;
mod contact_method;
mod control;
mod credentials;
mod health;
mod many;
mod methods;
mod picture;
mod reflection;
mod service;
mod status;
mod stream;
mod streams;
#[cfg(test)]
mod testing;
mod timeout;
mod unary;

use std::convert::Infallible;

use http::Response;
use tonic::body::Body;

pub use self::{
    avatar_address::AvatarAddress,
    contact_method::{ContactMethod, GET_PROFILE_PICTURE, RequestMessage},
    credentials::Credentials,
    health::Health,
    methods::methods,
    reflection::reflection,
    service::Contacts,
    status::status,
    streams::{OwnPace, StreamSettings, Streams},
    timeout::{call_end, grpc_timeout},
    unary::{MESSAGE_BYTES_MAX, PREFIX_BYTES},
};

/// The result of every service around and behind a call. A failed call is a response, too: its status is in
/// the headers or the trailers.
pub type Answered = Result<Response<Body>, Infallible>;

/// Code generated from `proto/hypersender/contact/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod contact {
    tonic::include_proto!("hypersender.contact.v1");
}

/// The descriptors of the contract and of everything that it imports, as protobuf bytes.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contact_descriptor.bin"));
