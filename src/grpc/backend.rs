//! [`Backend`]: the parts that the methods of the contact service share.

use std::sync::Arc;

use http::Extensions;
use tokio::sync::Semaphore;

use super::{avatar_address::AvatarAddress, credentials::Credentials, streams::Streams};
use crate::{stack::Stack, telemetry::ManyMetrics};

/// Maximum size of the messages of all large batches in progress. Their contacts are kept until they are
/// answered.
const LARGE_BATCHES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The parts that every method answers from.
#[derive(Debug)]
pub struct Backend<F> {
    /// The look-ups.
    pub stack: Stack<F>,
    /// The tokens of the instances.
    pub credentials: Arc<Credentials>,
    /// The streams in progress.
    pub streams: Streams,
    /// The bytes that the large batches in progress may have, as permits.
    pub large_batches: Arc<Semaphore>,
    /// The counters of batches and streams.
    pub metrics: Arc<ManyMetrics>,
    /// Makes the addresses of images; `None` when there are none.
    avatar_address: Option<AvatarAddress>,
}

impl<F> Backend<F> {
    /// The parts of a server without a call in progress.
    pub fn new(
        stack: Stack<F>,
        credentials: Arc<Credentials>,
        streams: Streams,
        metrics: Arc<ManyMetrics>,
        avatar_address: Option<AvatarAddress>,
    ) -> Self {
        let large_batches = Arc::new(Semaphore::new(LARGE_BATCHES_BYTES_MAX));
        Self { stack, credentials, streams, large_batches, metrics, avatar_address }
    }

    /// Makes the addresses in the answers to `call`, the extensions of a request. `None` if its caller gets
    /// none.
    pub fn avatar_address(&self, call: &Extensions) -> Option<AvatarAddress> {
        self.avatar_address.as_ref()?.for_caller(call)
    }
}

impl<F> Clone for Backend<F> {
    fn clone(&self) -> Self {
        let Self { stack, credentials, streams, large_batches, metrics, avatar_address } = self;
        Self {
            stack: stack.clone(),
            credentials: credentials.clone(),
            streams: streams.clone(),
            large_batches: large_batches.clone(),
            metrics: metrics.clone(),
            avatar_address: avatar_address.clone(),
        }
    }
}
