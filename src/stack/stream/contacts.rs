//! [`Contacts`], [`Found`] and [`Forecast`]: the request of a stream, one of its results, and its outlook.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::{Answer, CacheControl, ChatId, Credential, Instance, LookupError};

/// The contacts that a stream looks up. All of them are asked of one instance with one token.
#[derive(Debug)]
pub struct Contacts {
    /// The instance that is asked.
    pub instance: Instance,
    /// The token for the requests.
    pub credential: Credential,
    /// The contacts, each once.
    pub chats: Arc<[ChatId]>,
    /// The answers that the caller accepts from the cache.
    pub control: CacheControl,
    /// The instant at which the stream ends, if it has not ended before.
    pub deadline: Instant,
}

/// The result for one contact.
#[derive(Debug)]
pub struct Found {
    /// The index of the contact in [`Contacts::chats`].
    pub contact: usize,
    /// The answer, or why there is none.
    pub result: Result<Answer, LookupError>,
}

/// When a stream expects to ask Hypersender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The next spare turn of the instance, which another stream may take; `None` when no contact waits for
    /// one. With n streams that wait, this stream gets about every n-th.
    pub next_turn: Option<Instant>,
    /// The end of the pause that Hypersender asked for; `None` when there is none.
    pub paused_until: Option<Instant>,
}
