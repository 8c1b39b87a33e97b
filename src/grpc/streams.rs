//! [`Streams`]: how many streams may be in progress, and the end of all of them when the server stops.
//! [`OwnPace`]: the mark of a response whose stream watches its own reader.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// The streams of the server. Clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    stopping: watch::Sender<bool>,
}

impl Streams {
    /// No stream is in progress.
    #[must_use]
    pub fn new() -> Self {
        Self { stopping: watch::Sender::new(false) }
    }

    /// Ends every stream, now and later: none starts a further look-up.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

/// The mark of a response whose stream watches its own reader, in the extensions of the response. The server
/// does not count the chunks of such a response as waiting, and resets the HTTP/2 stream when `reset` is
/// notified.
#[derive(Clone, Debug, Default)]
pub struct OwnPace {
    /// Notified once, when the reader has not opened its window for too long.
    pub reset: Arc<Notify>,
}
