//! [`Boarded`]: a look-up of a stream in progress.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, future::BoxFuture};

use super::{lane::Permits, queue::Pending};
use crate::domain::{Answer, LookupError, QueuePlace};

/// A look-up that has started. It holds its permits until it has ended.
pub struct Boarded {
    /// The contact.
    pub pending: Pending,
    /// The place of the stream, in case the look-up ends without a turn.
    pub place: QueuePlace,
    /// The answer.
    pub answer: BoxFuture<'static, Result<Answer, LookupError>>,
    /// The permits. They are never used, only held.
    pub permits: Option<Permits>,
}

impl Future for Boarded {
    type Output = (Pending, Result<Answer, LookupError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.answer.poll_unpin(cx));
        self.place.leave();
        self.permits = None;
        Poll::Ready((self.pending.clone(), result))
    }
}
