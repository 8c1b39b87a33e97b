//! [`StreamBody`]: the body of a stream's response, fed by the task of the stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::UnboundedReceiver;
use tonic::Status;

/// The frames that the task of a stream sends. The task bounds their number. When the body is dropped, the
/// task ends.
#[derive(Debug)]
pub struct StreamBody {
    frames: UnboundedReceiver<Frame<Bytes>>,
    /// Whether the trailers were read.
    has_ended: bool,
}

impl StreamBody {
    /// The body with the frames of `frames`. The last one must be trailers.
    pub fn new(frames: UnboundedReceiver<Frame<Bytes>>) -> Self {
        Self { frames, has_ended: false }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.frames.poll_recv(context));
        self.has_ended = frame.as_ref().is_none_or(Frame::is_trailers);
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
