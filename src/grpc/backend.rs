//! [`Backend`]: the parts that the methods of the contact service share.

use std::sync::Arc;

use super::{credentials::Credentials, streams::Streams};
use crate::{stack::Stack, telemetry::ManyMetrics};

/// The parts that every method answers from.
#[derive(Debug)]
pub struct Backend<F> {
    /// The look-ups.
    pub stack: Stack<F>,
    /// The tokens of the instances.
    pub credentials: Arc<Credentials>,
    /// The streams in progress.
    pub streams: Streams,
    /// The counters of batches and streams.
    pub metrics: Arc<ManyMetrics>,
}

impl<F> Clone for Backend<F> {
    fn clone(&self) -> Self {
        let Self { stack, credentials, streams, metrics } = self;
        Self {
            stack: stack.clone(),
            credentials: credentials.clone(),
            streams: streams.clone(),
            metrics: metrics.clone(),
        }
    }
}
