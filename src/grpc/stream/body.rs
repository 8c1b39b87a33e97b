//! [`StreamBody`]: the body of a stream's response, fed by the task of the stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::UnboundedReceiver;
use tonic::Status;

/// The frames that the task of a stream sends. The task bounds their number. When the body is dropped, the
/// task ends.
#[derive(Debug)]
pub struct StreamBody(UnboundedReceiver<Frame<Bytes>>);

impl StreamBody {
    /// The body with the frames of `frames`. The last one must be trailers.
    pub fn new(frames: UnboundedReceiver<Frame<Bytes>>) -> Self {
        Self(frames)
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
