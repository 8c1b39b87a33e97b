//! [`ContactMethod`]: the methods of the contact service, each with its path, the size limit of its request,
//! its longest and its default time, and whether it streams.
//!
//! Every method takes one request message, which the server reads before it calls `Contacts`. A new method of
//! the contract gets a variant here and a handler in `service`; the server needs no change.

use std::time::Duration;

use bytes::Bytes;

use super::unary::MESSAGE_BYTES_MAX;

/// The path of `GetProfilePicture` in HTTP/2.
pub const GET_PROFILE_PICTURE: &str = "/hypersender.contact.v1.ContactService/GetProfilePicture";

/// A method of the contact service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactMethod {
    /// One contact, one answer.
    GetProfilePicture,
    /// Up to 100 contacts, one answer.
    BatchGetProfilePictures,
    /// Up to 10,000 contacts, a stream of answers.
    StreamProfilePictures,
}

impl ContactMethod {
    /// Every method, the one with the most calls first: paths are compared in this order.
    pub const ALL: [Self; 3] =
        [Self::GetProfilePicture, Self::BatchGetProfilePictures, Self::StreamProfilePictures];

    /// The method that is called by `path`.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.path() == path)
    }

    /// The path of the method in HTTP/2.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::GetProfilePicture => GET_PROFILE_PICTURE,
            Self::BatchGetProfilePictures => "/hypersender.contact.v1.ContactService/BatchGetProfilePictures",
            Self::StreamProfilePictures => "/hypersender.contact.v1.ContactService/StreamProfilePictures",
        }
    }

    /// The largest request message, in bytes, without its prefix. A call with a larger one is refused.
    #[must_use]
    pub const fn request_bytes_max(self) -> usize {
        match self {
            Self::GetProfilePicture => MESSAGE_BYTES_MAX,
            Self::BatchGetProfilePictures => 512 * 1024,
            Self::StreamProfilePictures => 2 * 1024 * 1024,
        }
    }

    /// The longest time of a call, even if its `grpc-timeout` is longer.
    #[must_use]
    pub const fn time_max(self) -> Duration {
        match self {
            Self::GetProfilePicture | Self::BatchGetProfilePictures => Duration::from_secs(30),
            Self::StreamProfilePictures => Duration::from_secs(2 * 60 * 60),
        }
    }

    /// The time of a call without `grpc-timeout`. `None`: the setting of the server (`--deadline`).
    #[must_use]
    pub const fn time_unstated(self) -> Option<Duration> {
        match self {
            Self::GetProfilePicture => None,
            Self::BatchGetProfilePictures | Self::StreamProfilePictures => Some(self.time_max()),
        }
    }

    /// Whether the response is a stream of messages, so that the work goes on while the body is sent.
    #[must_use]
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::StreamProfilePictures)
    }
}

/// The request of a call: its method, and the one message with its prefix.
#[derive(Clone, Debug)]
pub struct RequestMessage {
    /// The method that is called.
    pub method: ContactMethod,
    /// The message as it arrived, not decoded yet.
    pub bytes: Bytes,
}
