//! [`ContactMethod`]: the methods of the contact service, each with its path and the size limit of its
//! request.
//!
//! Every method takes one request message, which the server reads before it calls `Contacts`. A new method of
//! the contract gets a variant here and a handler in `service`; the server needs no change.

use bytes::Bytes;

use super::unary::MESSAGE_BYTES_MAX;

/// The path of `GetProfilePicture` in HTTP/2.
pub const GET_PROFILE_PICTURE: &str = "/hypersender.contact.v1.ContactService/GetProfilePicture";

/// A method of the contact service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactMethod {
    /// One contact, one answer.
    GetProfilePicture,
}

impl ContactMethod {
    /// Every method, the one with the most calls first: paths are compared in this order.
    pub const ALL: [Self; 1] = [Self::GetProfilePicture];

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
        }
    }

    /// The largest request message, in bytes, without its prefix. A call with a larger one is refused.
    #[must_use]
    pub const fn request_bytes_max(self) -> usize {
        match self {
            Self::GetProfilePicture => MESSAGE_BYTES_MAX,
        }
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
