//! [`SlowReader`]: detects that the peer of a connection does not read its responses.
//!
//! A peer that opens no window keeps the responses to its calls in the memory of this server. Neither HTTP/2
//! nor hyper limits how long. A response that is sent at its own pace is not counted: see `own_pace`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::sleep;
use tower::Service;

use super::own_pace::{OwnReader, UnwrittenChunk, let_reset};
use crate::grpc::OwnPace;

/// When a chunk has waited for this time, or for up to twice this time, its peer counts as a slow reader: no
/// caller waits that long, and a network that needs that long is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts the chunks of responses that wait for their peer. Chunks that began to wait in this period are
/// counted separately from those of the last period. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct SlowReader(Arc<Periods>);

#[derive(Debug, Default)]
struct Periods {
    /// The index of this period's count.
    current: AtomicUsize,
    waiting: [AtomicUsize; 2],
}

impl SlowReader {
    /// Wraps `service`, so that the chunks of its responses are counted.
    pub fn watch<S>(&self, service: S) -> Watched<S> {
        Watched { service: Mutex::new(service), reader: self.clone() }
    }

    /// Whether no call is in flight and no chunk waits for the peer: each of them holds a clone of the
    /// counts.
    pub fn is_idle(&self) -> bool {
        // Two clones always exist: this one, and the one of the watched service.
        Arc::strong_count(&self.0) <= 2
    }

    /// Resolves when a chunk has waited for too long.
    pub async fn detected(&self) {
        let Periods { current, waiting } = &*self.0;
        loop {
            sleep(PATIENCE).await;
            let next = 1 - current.load(Relaxed);
            if waiting[next].load(Relaxed) > 0 {
                return;
            }
            current.store(next, Relaxed);
        }
    }
}

/// A service in the form that hyper needs. The chunks of its responses are counted while they wait for their
/// peer.
#[derive(Debug)]
pub struct Watched<S> {
    /// hyper calls it from the one task of the connection. A lock without contention costs less than a clone
    /// for each call.
    service: Mutex<S>,
    reader: SlowReader,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Infallible;
    type Future = WatchedCall<S::Future, B>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // All services and layers here are always ready: an excess of calls is refused, not delayed.
        let call = self.service.lock().call(request);
        WatchedCall { call, marked: None, reader: self.reader.clone() }
    }
}

pin_project! {
    /// A call that has no response yet.
    #[derive(Debug)]
    pub struct WatchedCall<F, B> {
        #[pin]
        call: F,
        // The response of a stream, until the call has a task of its own.
        marked: Option<Box<Response<B>>>,
        reader: SlowReader,
    }
}

impl<F, B> Future for WatchedCall<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<WatchedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let is_first = this.marked.is_none();
        let response = if let Some(response) = this.marked.take() {
            *response
        } else {
            let Ok(response) = ready!(this.call.poll(context));
            response
        };
        let mut own = None;
        if let Some(pace) = response.extensions().get::<OwnPace>()
            && !response.body().is_end_stream()
        {
            if !let_reset(pace) && is_first {
                *this.marked = Some(Box::new(response));
                // The next poll is in a task of its own.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            own = Some(Box::<OwnReader>::default());
        }
        Poll::Ready(Ok(response.map(|body| WatchedBody { body, own, reader: this.reader.clone() })))
    }
}

/// The part of a response that hyper has not read yet.
#[derive(Debug)]
pub struct WatchedBody<B> {
    body: B,
    /// Set when the response is sent at its own pace.
    own: Option<Box<OwnReader>>,
    reader: SlowReader,
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Chunk;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, B::Error>>> {
        let this = self.get_mut();
        if let Some(own) = &mut this.own {
            let frame = ready!(own.poll_frame(&mut this.body, context));
            let counted = |(data, chunk)| Chunk { data, _count: Count::OfStream(chunk) };
            return Poll::Ready(frame.map(|frame| Ok(frame?.map_data(counted))));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(|data| Chunk::begin(data, this.reader.clone())))))
    }

    fn is_end_stream(&self) -> bool {
        self.own.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A chunk of a response, which waits for its peer until it is dropped. h2 drops it once it is written, and
/// gives no other sign of that. The end of the response body is not such a sign: hyper drops the body once
/// the window has one byte.
#[derive(Debug)]
pub struct Chunk {
    data: Bytes,
    _count: Count,
}

/// Where a chunk is counted while it waits.
#[derive(Debug)]
enum Count {
    OfConnection(#[expect(dead_code, reason = "held until it is dropped")] Waiting),
    OfStream(#[expect(dead_code, reason = "held until it is dropped")] UnwrittenChunk),
}

/// A chunk that is counted with those of its connection.
#[derive(Debug)]
struct Waiting {
    reader: SlowReader,
    /// The index of the period in which it began to wait.
    since: usize,
}

impl Chunk {
    fn begin(data: Bytes, reader: SlowReader) -> Self {
        let since = reader.0.current.load(Relaxed);
        reader.0.waiting[since].fetch_add(1, Relaxed);
        Self { data, _count: Count::OfConnection(Waiting { reader, since }) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.reader.0.waiting[self.since].fetch_sub(1, Relaxed);
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, channel::Channel};
    use tokio::time::timeout;

    use super::*;

    fn watched(reader: &SlowReader) -> (http_body_util::channel::Sender<Bytes>, WatchedBody<Channel<Bytes>>) {
        let (sender, body) = Channel::new(8);
        (sender, WatchedBody { body, own: None, reader: reader.clone() })
    }

    async fn is_detected(reader: &SlowReader) -> bool {
        timeout(PATIENCE * 3, reader.detected()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_that_finds_no_window_is_detected() {
        let reader = SlowReader::default();
        let (mut sender, mut body) = watched(&reader);
        sender.send_data(Bytes::from_static(b"chunk")).await.unwrap();
        let chunk = body.frame().await.unwrap().unwrap();
        // hyper may drop the body before its peer has read the chunk.
        drop(body);
        assert!(is_detected(&reader).await);
        drop(chunk);
        assert!(!is_detected(&reader).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_next_chunk_is_left_alone() {
        let reader = SlowReader::default();
        let (mut sender, mut body) = watched(&reader);
        sender.send_data(Bytes::from_static(b"chunk")).await.unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(timeout(Duration::from_secs(1), body.frame()).await.is_err());
        assert!(!is_detected(&reader).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_chunk_after_chunk_may_take_its_time() {
        let reader = SlowReader::default();
        let (mut sender, mut body) = watched(&reader);
        let reading = async {
            for _ in 0..10 {
                sender.send_data(Bytes::from_static(b"chunk")).await.unwrap();
                let chunk = body.frame().await.unwrap().unwrap();
                sleep(PATIENCE / 2).await;
                drop(chunk);
            }
        };
        assert!(
            timeout(PATIENCE * 10, async {
                tokio::select! { () = reading => false, () = reader.detected() => true }
            })
            .await
            .is_ok_and(|too_long| !too_long)
        );
    }
}
