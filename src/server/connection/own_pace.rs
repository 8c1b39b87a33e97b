//! [`OwnReader`]: the reader of a response that is marked with [`OwnPace`], because its stream watches the
//! reader itself. [`until_reset`]: the task of a call, which such a stream can end.
//!
//! hyper polls a body only while the peer opens its window, and h2 resets a stream when its last handle is
//! dropped. A stream whose peer does not read is therefore ended from outside: its whole call is dropped. h2
//! then sends RST_STREAM with CANCEL. The other calls of the connection do not notice (rule 42).

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame};
use tokio::{sync::Notify, task_local};
use tracing::debug;

use crate::grpc::OwnPace;

task_local! {
    /// Resets the call of this task.
    static RESET: Cell<Option<Arc<Notify>>>;
}

/// Runs a call that has a task of its own, until it ends or its stream is reset.
pub async fn until_reset(call: impl Future<Output = ()>) {
    let call = async {
        tokio::pin!(call);
        let marked = poll_fn(|_| RESET.with(Cell::take).map_or(Poll::Pending, Poll::Ready));
        let reset = tokio::select! {
            biased;
            () = &mut call => return,
            reset = marked => reset,
        };
        // The reset comes first, so that a call that asks for it is not polled again.
        tokio::select! {
            biased;
            () = reset.notified() => debug!("reset a stream whose peer does not read it"),
            () = call => {}
        }
    };
    RESET.scope(Cell::default(), call).await;
}

/// Lets `pace` reset the call of this task. Returns whether it can: the call has no task of its own before
/// its first poll is over.
pub fn let_reset(pace: &OwnPace) -> bool {
    RESET.try_with(|reset| reset.set(Some(pace.reset.clone()))).is_ok()
}

/// The reader of a response that is sent at its own pace. The last frame of the response waits until every
/// chunk is written: with it, the call would end, and with the call the way to reset its stream. The stream
/// itself measures how long its peer reads nothing.
#[derive(Debug, Default)]
pub struct OwnReader {
    unwritten: Arc<Unwritten>,
    /// Whether the stream has nothing more to send.
    has_ended: bool,
    /// The trailers while they wait.
    trailers: Option<Frame<Bytes>>,
}

/// The chunks that hyper has taken and h2 has not written yet.
#[derive(Debug, Default)]
struct Unwritten {
    chunks: AtomicUsize,
    /// Woken for each chunk that is written.
    waker: AtomicWaker,
}

/// A chunk that is not written yet. h2 drops it once it is written.
#[derive(Debug)]
pub struct UnwrittenChunk(Arc<Unwritten>);

/// A frame whose chunk comes together with its count.
pub type CountedFrame = Frame<(Bytes, UnwrittenChunk)>;

impl Drop for UnwrittenChunk {
    fn drop(&mut self) {
        self.0.chunks.fetch_sub(1, Release);
        self.0.waker.wake();
    }
}

impl OwnReader {
    /// The next frame of `body`.
    pub fn poll_frame<B>(
        &mut self,
        body: &mut B,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<CountedFrame, B::Error>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !self.has_ended {
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) if frame.is_data() => {
                    return Poll::Ready(Some(Ok(frame.map_data(|data| self.counted(data)))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(trailers)) => self.trailers = Some(trailers),
                None => {}
            }
            self.has_ended = true;
        }
        ready!(self.poll_written(context));
        let trailers = self.trailers.take();
        Poll::Ready(trailers.map(|trailers| Ok(trailers.map_data(|data| self.counted(data)))))
    }

    fn counted(&self, data: Bytes) -> (Bytes, UnwrittenChunk) {
        self.unwritten.chunks.fetch_add(1, Release);
        (data, UnwrittenChunk(self.unwritten.clone()))
    }

    /// Resolves when every chunk is written.
    fn poll_written(&self, context: &Context<'_>) -> Poll<()> {
        self.unwritten.waker.register(context.waker());
        if self.unwritten.chunks.load(Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
