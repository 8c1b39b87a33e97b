//! [`LookupStream`]: the look-ups of many contacts of one instance, paced so that they take only the turns
//! that no other call needs.

use tokio::time::Instant;

use super::Stack;
use crate::domain::{Answer, CacheControl, ChatId, Credential, Instance, LookupError};

/// The contacts that a stream looks up. All of them are asked of one instance with one token.
#[derive(Debug)]
pub struct Contacts {
    /// The instance that is asked.
    pub instance: Instance,
    /// The token for the requests.
    pub credential: Credential,
    /// The contacts, each once.
    pub chats: Vec<ChatId>,
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
    /// The next turn; `None` when no contact waits for one.
    pub next_turn: Option<Instant>,
    /// The end of the pause that Hypersender asked for; `None` when there is none.
    pub paused_until: Option<Instant>,
}

/// The look-ups of a stream. They go on only while [`LookupStream::next`] is polled.
#[derive(Debug)]
pub struct LookupStream<F> {
    stack: Stack<F>,
    contacts: Contacts,
}

impl<F> LookupStream<F> {
    pub(super) fn new(stack: Stack<F>, contacts: Contacts) -> Self {
        Self { stack, contacts }
    }

    /// The next result; `None` after the last one. If it is dropped before it resolves, no result is lost.
    ///
    /// # Errors
    ///
    /// An error that concerns every contact, such as a rejected token. It ends the stream.
    pub async fn next(&mut self) -> Option<Result<Found, LookupError>> {
        let _ = (&self.stack, &self.contacts);
        None
    }

    /// Gives up the place in the queue for spare turns, if the stream has one. To be called before a time in
    /// which [`LookupStream::next`] is not polled, so that other streams do not wait for this one.
    pub fn leave_queue(&mut self) {}

    /// Starts no further look-up. The results of those in progress still come.
    pub fn stop(&mut self) {}

    /// When Hypersender is asked next, as far as it is known now.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        Forecast::default()
    }
}
