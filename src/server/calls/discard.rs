//! [`DiscardLayer`]: reads the rest of a request that was answered before its end.
//!
//! A call can be refused before its message has arrived: the caller is unknown, the path is wrong, the
//! message is too large. Its request body is dropped then, and h2 resets the stream while DATA frames are
//! still on their way. h2 remembers 50 reset streams of a connection for a second and ignores DATA for those.
//! DATA for any other closed stream counts as a fault of the peer, and after 128 such faults h2 ends the
//! connection with all its calls. Some clients also report the reset in place of the status before it.
//!
//! Here the rest of a body that is dropped before its end is read and discarded, within bounds of bytes, time
//! and memory. The answer leaves at once, and the stream ends without a reset. A body that was read to its
//! end costs nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};
use tower::{Layer, Service};

use super::memory::{CALL_BYTES, MemoryBudget, Reservation};

/// Bytes of one request that are discarded: the largest message that gRPC accepts by default. The stream of a
/// client that sends more is reset. Nearly every client ends or resets its request once it has read the
/// answer. Node.js continues to send; bytes that it could not send before a reset count against the memory of
/// its connection until that is closed.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time for the rest of one request to arrive. A client that has its message ready sends it within a round
/// trip. A stream that does not end in time is reset, so that it does not count against the stream limit of
/// its connection for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Memory of requests that are discarded, over all connections: enough for 4,096 requests. With more, the
/// stream of the oldest one is reset.
const DISCARDED_BYTES_MAX: usize = 4_096 * CALL_BYTES;

/// Wraps request bodies, so that they are read to their end even when a service drops them before.
#[derive(Clone, Debug)]
pub struct DiscardLayer(Arc<MemoryBudget>);

impl Default for DiscardLayer {
    fn default() -> Self {
        Self(Arc::new(MemoryBudget::of(DISCARDED_BYTES_MAX)))
    }
}

impl<S> Layer<S> for DiscardLayer {
    type Service = Discard<S>;

    fn layer(&self, inner: S) -> Discard<S> {
        Discard { inner, budget: self.0.clone() }
    }
}

/// A service that may answer before the end of a request.
#[derive(Clone, Debug)]
pub struct Discard<S> {
    inner: S,
    budget: Arc<MemoryBudget>,
}

impl<S, B, A> Service<Request<B>> for Discard<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<A>, Error = Infallible>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<A>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let budget = self.budget.clone();
        self.inner.call(request.map(|body| RequestBody { body: Some(body), has_ended: false, budget }))
    }
}

/// A request body. When it is dropped before its end, the rest is read and discarded.
#[derive(Debug)]
pub struct RequestBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// Taken when this is dropped, and at no other time.
    body: Option<B>,
    /// Whether nothing is left to be read: the request has ended, or the peer has left.
    has_ended: bool,
    budget: Arc<MemoryBudget>,
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        // The result is stored, because each query to h2 locks the connection.
        this.has_ended = !matches!(frame, Some(Ok(_))) || body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B> Drop for RequestBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.has_ended || body.is_end_stream() {
            return;
        }
        let mut rest = Rest { body, bytes_left: BYTES_MAX };
        // The end may have arrived already, or the peer may have reset the stream. Then there is nothing to
        // wait for.
        if rest.poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        // Without a runtime the connection does not exist any more.
        let Ok(runtime) = Handle::try_current() else { return };
        let reservation = self.budget.reserve();
        runtime.spawn(timeout(PATIENCE, discard(rest, reservation)));
    }
}

/// Reads `rest` to its end, or until it is evicted.
async fn discard<B>(mut rest: Rest<B>, mut reservation: Reservation)
where
    B: Body<Data = Bytes> + Unpin,
{
    poll_fn(|context| match reservation.poll_evicted(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => rest.poll(context),
    })
    .await;
}

/// The part of a request that has not arrived yet.
struct Rest<B> {
    body: B,
    bytes_left: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Ready when nothing more is to be read: the request has ended, the peer has left, or it sends too much.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(context)) {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match self.bytes_left.checked_sub(bytes) {
                Some(bytes_left) => self.bytes_left = bytes_left,
                None => break,
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::FutureExt;
    use http_body_util::{
        BodyExt, Full,
        channel::{Channel, Sender},
    };
    use tokio::{
        task::yield_now,
        time::{Instant, sleep},
    };
    use tower::service_fn;

    use super::*;

    /// A request whose body is dropped at once, as a refused call's is.
    fn refuse(layer: &DiscardLayer) -> Sender<Bytes> {
        let (sender, body) = Channel::new(1);
        let mut service = layer.layer(service_fn(|_: Request<RequestBody<Channel<Bytes>>>| {
            ready(Ok::<_, Infallible>(Response::new(())))
        }));
        service.call(Request::new(body)).now_or_never().expect("the answer waits for nothing").unwrap();
        sender
    }

    /// How long the body is read on while the client sends `piece` bytes every `pace`, and how many bytes it
    /// sends.
    async fn read_for(layer: &DiscardLayer, piece: usize, pace: Duration) -> (Duration, usize) {
        let mut sender = refuse(layer);
        let (begin, mut sent) = (Instant::now(), 0);
        while sender.send_data(Bytes::from(vec![0; piece])).await.is_ok() {
            sent += piece;
            sleep(pace).await;
        }
        (begin.elapsed(), sent)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_is_read_to_its_end() {
        let layer = DiscardLayer::default();
        let mut sender = refuse(&layer);
        for _ in 0..10 {
            sleep(PATIENCE / 20).await;
            sender.send_data(Bytes::from_static(b"piece")).await.expect("the body is read");
        }
        assert!(!layer.0.is_empty());
        drop(sender);
        sleep(Duration::from_millis(1)).await;
        assert!(layer.0.is_empty(), "the memory is free after the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_is_given_up_after_a_time_and_after_some_bytes() {
        let layer = DiscardLayer::default();
        let (time, _) = read_for(&layer, 1, PATIENCE / 20).await;
        assert!((PATIENCE..PATIENCE * 3 / 2).contains(&time), "{time:?}");
        let (time, sent) = read_for(&layer, 64 * 1024, Duration::from_millis(1)).await;
        assert!(time < PATIENCE, "{time:?}");
        assert!((BYTES_MAX..BYTES_MAX + 256 * 1024).contains(&sent), "{sent} bytes");
        assert!(layer.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_requests_the_oldest_is_given_up() {
        let layer = DiscardLayer(Arc::new(MemoryBudget::of(2 * CALL_BYTES)));
        let mut senders = [refuse(&layer), refuse(&layer), refuse(&layer)];
        yield_now().await;
        let mut is_read = Vec::new();
        for sender in &mut senders {
            // The channel takes the second part once the first one is read.
            let _ = sender.send_data(Bytes::from_static(b"1")).await;
            is_read.push(sender.send_data(Bytes::from_static(b"2")).await.is_ok());
        }
        assert_eq!(is_read, [false, true, true]);
    }

    #[tokio::test]
    async fn a_request_that_has_arrived_takes_no_task() {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let budget = DiscardLayer::default().0;
        let body = |text: &'static str| RequestBody {
            body: Some(Full::new(Bytes::from_static(text.as_bytes()))),
            has_ended: false,
            budget: budget.clone(),
        };
        drop(body(""));
        drop(body("not looked at"));
        let read = body("read").collect().await.unwrap().to_bytes();
        assert_eq!(read, "read");
        assert_eq!(tasks(), before);
        assert!(budget.is_empty());
    }

    #[tokio::test]
    async fn a_request_is_read_on_after_a_panic() {
        let layer = DiscardLayer::default();
        let (sender, body) = Channel::<Bytes>::new(1);
        let mut service = layer.layer(service_fn(|request: Request<RequestBody<Channel<Bytes>>>| async {
            let _held = request;
            assert!(layer.0.is_empty(), "nothing is discarded yet");
            panic!("on purpose");
            #[allow(unreachable_code, reason = "tells the type")]
            Ok::<_, Infallible>(Response::new(()))
        }));
        let call = std::panic::AssertUnwindSafe(service.call(Request::new(body))).catch_unwind();
        assert!(call.await.is_err());
        assert!(!layer.0.is_empty());
        drop(sender);
    }
}
