//! The contract: generated types, the services for them, and the status codes that callers see.

mod health;
mod methods;
mod reflection;
mod service;
mod status;
mod timeout;
mod unary;

pub use self::{
    health::Health,
    methods::methods,
    reflection::reflection,
    service::{Contacts, Credentials, GET_PROFILE_PICTURE},
    status::{DOMAIN, status},
    timeout::{call_end, grpc_timeout},
    unary::{MESSAGE_BYTES_MAX, PREFIX_BYTES},
};

/// Code generated from `proto/hypersender/contact/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod contact {
    tonic::include_proto!("hypersender.contact.v1");
}

/// The descriptors of the contract and of everything that it imports, as protobuf bytes.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contact_descriptor.bin"));
