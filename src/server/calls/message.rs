//! [`MessageLayer`]: reads the one request message of a call before anything else is done for the call.
//!
//! Usually the message has arrived together with the call. Otherwise the call waits, and its memory counts
//! against a budget. When the budget is exceeded, the call that has waited longest is refused: calls of
//! clients that send their messages promptly wait for milliseconds only. A message that is too large is
//! refused as soon as its length prefix has arrived.
//!
//! Methods with large messages have a budget of their own, so that they cannot displace the others. A large
//! message is charged as it arrives, not as it is announced: an announcement costs its client nothing (rule
//! 43).

use std::{
    convert::Infallible,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{
    memory::{CALL_BYTES, MemoryBudget, Reservation},
    route::Routed,
};
use crate::{
    domain::Refusal,
    grpc::{Answered, ContactMethod, MESSAGE_BYTES_MAX, PREFIX_BYTES, RequestMessage, call_end, status},
};

/// Memory of calls that wait for a message of at most [`MESSAGE_BYTES_MAX`], over all connections: enough for
/// 11,000 calls whose messages have not begun to arrive.
const SMALL_BYTES_MAX: usize = 11_000 * CALL_BYTES;
/// Memory of calls that wait for a larger message, over all connections: enough for 30 of the largest ones.
const LARGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A layer for services whose methods take exactly one request message (no client streaming).
#[derive(Clone, Debug)]
pub struct MessageLayer(Budgets);

/// The memory of calls that wait. Clones share it.
#[derive(Clone, Debug)]
struct Budgets {
    small: Arc<MemoryBudget>,
    large: Arc<MemoryBudget>,
}

impl Budgets {
    fn of(small: usize, large: usize) -> Self {
        Self { small: Arc::new(MemoryBudget::of(small)), large: Arc::new(MemoryBudget::of(large)) }
    }

    fn reserve(&self, method: ContactMethod) -> Reservation {
        if is_large(method) { self.large.reserve() } else { self.small.reserve() }
    }
}

/// Whether messages of `method` may be large.
fn is_large(method: ContactMethod) -> bool {
    method.request_bytes_max() > MESSAGE_BYTES_MAX
}

impl Default for MessageLayer {
    fn default() -> Self {
        Self(Budgets::of(SMALL_BYTES_MAX, LARGE_BYTES_MAX))
    }
}

impl<S> Layer<S> for MessageLayer {
    type Service = Messages<S>;

    fn layer(&self, inner: S) -> Messages<S> {
        Messages { inner, budgets: self.0.clone() }
    }
}

/// A service that is called once the whole message has arrived.
#[derive(Clone, Debug)]
pub struct Messages<S> {
    inner: S,
    budgets: Budgets,
}

impl<S, B> Service<Request<Routed<B>>> for Messages<S>
where
    S: Service<Request<RequestMessage>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    /// A message that has arrived already needs no allocation for its future.
    type Future = Either<S::Future, BoxFuture<'static, Answered>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Routed<B>>) -> Self::Future {
        let (parts, Routed { method, body }) = request.into_parts();
        let mut message = Arriving::new(method, body);
        // Without a waker: a message that has not arrived is polled again by the future below.
        if let Poll::Ready(Ok(bytes)) = message.poll(&mut Context::from_waker(Waker::noop())) {
            return Either::Left(
                self.inner.call(Request::from_parts(parts, RequestMessage { method, bytes })),
            );
        }
        let end = call_end(&parts.headers, &parts.extensions);
        let (mut inner, mut reservation) = (self.inner.clone(), self.budgets.reserve(method));
        Either::Right(Box::pin(async move {
            let message = poll_fn(|context| {
                let arrived = message.poll(context);
                reservation.resize(message.read.capacity());
                match arrived {
                    Poll::Pending => reservation.poll_evicted(context).map(|()| Err(Refusal::Overloaded)),
                    arrived @ Poll::Ready(_) => arrived,
                }
            });
            match message.await {
                Ok(bytes) => {
                    drop(reservation);
                    inner.call(Request::from_parts(parts, RequestMessage { method, bytes })).await
                }
                Err(error) => Ok(status(&error, end).into_http()),
            }
        }))
    }
}

/// A message that has arrived in part.
struct Arriving<B> {
    body: B,
    /// The largest message, without its prefix.
    bytes_max: usize,
    /// Whether memory for the whole message is allocated once its length is known.
    is_allocated_ahead: bool,
    /// A copy of the part that has arrived. A slice of a frame would keep the whole frame in memory.
    read: Vec<u8>,
    /// Whether the peer left before the end of the message.
    has_broken_off: bool,
}

impl<B> Arriving<B> {
    fn new(method: ContactMethod, body: B) -> Self {
        let (bytes_max, is_allocated_ahead) = (method.request_bytes_max(), !is_large(method));
        Self { body, bytes_max, is_allocated_ahead, read: Vec::new(), has_broken_off: false }
    }

    /// Adds a part of the message. The memory of a large message grows to twice its bytes at most, and never
    /// above the length of the whole message.
    fn take(&mut self, part: &[u8]) {
        let needed = self.read.len() + part.len();
        if !self.is_allocated_ahead && needed > self.read.capacity() {
            let capacity = (2 * self.read.len()).min(self.whole()).max(needed);
            self.read.reserve_exact(capacity - self.read.len());
        }
        self.read.extend_from_slice(part);
        if self.is_allocated_ahead {
            self.read.reserve_exact(self.whole().saturating_sub(self.read.len()));
        }
    }

    /// The length of the whole message with its prefix, as far as it is known.
    fn whole(&self) -> usize {
        PREFIX_BYTES + announced(&self.read).min(self.bytes_max)
    }

    /// Whether `read` is longer than the largest message, or its prefix announces a longer one.
    fn is_too_large(&self, read: &[u8]) -> bool {
        announced(read) > self.bytes_max || read.len() > PREFIX_BYTES + self.bytes_max
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Arriving<B> {
    /// The message with its prefix. When the body ends early, it is the part that has arrived, which the
    /// service refuses.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Refusal>> {
        loop {
            if self.has_broken_off {
                return Poll::Pending;
            }
            if self.is_too_large(&self.read) {
                return Poll::Ready(Err(Refusal::MessageTooLarge { bytes_max: self.bytes_max }));
            }
            if self.body.is_end_stream() {
                return Poll::Ready(Ok(mem::take(&mut self.read).into()));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(whole)
                        if self.read.is_empty()
                            && self.body.is_end_stream()
                            && !self.is_too_large(&whole) =>
                    {
                        return Poll::Ready(Ok(whole));
                    }
                    Ok(part) => self.take(&part),
                    // Trailers are not part of a message.
                    Err(_) => {}
                },
                Poll::Ready(None) => return Poll::Ready(Ok(mem::take(&mut self.read).into())),
                // There is no caller to answer any more. hyper drops the call, which is counted as cancelled.
                Poll::Ready(Some(Err(_))) => self.has_broken_off = true,
            }
        }
    }
}

/// The length of the message that the prefix announces; 0 while the prefix has not arrived.
fn announced(read: &[u8]) -> usize {
    let length = read.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
    length.map_or(0, |length| u32::from_be_bytes(length) as usize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{
        BodyExt, Full, StreamBody,
        channel::{Channel, Sender},
    };
    use tokio::{task::yield_now, time::timeout};
    use tonic::{Code, Status};
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn routed<B>(body: B) -> Routed<B> {
        Routed { method: ContactMethod::GetProfilePicture, body }
    }

    /// A call of `method` whose message is sent through the sender.
    fn announce(
        layer: &MessageLayer,
        method: ContactMethod,
    ) -> (Sender<Bytes>, impl Future<Output = Answered> + use<>) {
        let (sender, body) = Channel::<Bytes>::new(1);
        let mut service =
            layer.layer(service_fn(|_: Request<RequestMessage>| async { Ok(Response::new(Body::empty())) }));
        let request = Request::builder().header("grpc-timeout", "500m").body(Routed { method, body });
        (sender, service.call(request.unwrap()))
    }

    /// The code of a call that fails. The call has less time left than the wait in the refusal.
    async fn code(call: impl Future<Output = Answered>) -> Option<Code> {
        let Ok(response) = call.await;
        let status = Status::from_header_map(response.headers())?;
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
        Some(status.code())
    }

    /// The message that the service behind the layer gets when `frames` arrive one by one, or the code of a
    /// refusal.
    async fn call(frames: &[&[u8]]) -> Result<Vec<u8>, Code> {
        let service = MessageLayer::default().layer(service_fn(|request: Request<RequestMessage>| async {
            Ok(Response::new(Body::new(Full::new(request.into_body().bytes))))
        }));
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        tokio::spawn(async move {
            for frame in frames {
                yield_now().await;
                // A layer that refuses the first frame does not read the second.
                let _ = sender.send_data(frame).await;
            }
        });
        // On a paused clock the time-out fires at once when no task is going to be woken.
        let answer = timeout(Duration::from_secs(1), service.oneshot(Request::new(routed(body)))).await;
        let Ok(response) = answer.expect("a call that waits for its message is woken when it arrives");
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(status.code()),
            None => Ok(response.into_body().collect().await.unwrap().to_bytes().to_vec()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_whole_before_the_service_is_called() {
        for frames in ["", "\0\0\0\0\x05hello", "\0\0|\0\0\x05he|llo", "\0\0"] {
            let frames: Vec<_> = frames.split('|').map(str::as_bytes).collect();
            assert_eq!(call(&frames).await, Ok(frames.concat()), "{frames:?}");
        }
    }

    #[tokio::test]
    async fn a_message_that_has_arrived_already_is_not_waited_for() {
        let mut service = MessageLayer::default()
            .layer(service_fn(|_: Request<RequestMessage>| async { Ok(Response::new(Body::empty())) }));
        let future = service.call(Request::new(routed(Full::from("\0\0\0\0\0"))));
        assert!(matches!(future, Either::Left(_)));
    }

    #[tokio::test]
    async fn of_too_many_calls_that_wait_the_one_that_waited_longest_is_refused() {
        let layer = MessageLayer(Budgets::of(2 * CALL_BYTES, 0));
        let announce = || announce(&layer, ContactMethod::GetProfilePicture);
        let [(_first, first), (second_ends, second), (third_ends, third)] =
            [announce(), announce(), announce()];
        assert_eq!(code(first).await, Some(Code::Unavailable));
        drop(second_ends);
        assert_eq!(code(second).await, None);
        // The budget has memory for two again.
        let (_fourth, fourth) = announce();
        drop(third_ends);
        assert_eq!(code(third).await, None);
        // Its message takes the memory of two calls.
        let (mut fifth_sends, fifth) = announce();
        fifth_sends.send_data(vec![0; CALL_BYTES].into()).await.unwrap();
        let fifth = tokio::spawn(fifth);
        assert_eq!(code(fourth).await, Some(Code::Unavailable));
        fifth.abort();
        let _ = fifth.await;
        assert!(layer.0.small.is_empty());
    }

    #[tokio::test]
    async fn announcements_of_large_messages_displace_no_other_call() {
        let layer = MessageLayer(Budgets::of(2 * CALL_BYTES, 3 * CALL_BYTES + 64));
        let (small_ends, small) = announce(&layer, ContactMethod::GetProfilePicture);
        let mut large: Vec<_> = (0..4)
            .map(|_| announce(&layer, ContactMethod::StreamProfilePictures))
            .map(|(sender, call)| (sender, tokio::spawn(code(call))))
            .collect();
        for (sender, _) in &mut large {
            // The prefix of a message of 2 MiB. The first call was refused for the fourth.
            let _ = sender.send_data(Bytes::from_static(&[0, 0, 0x20, 0, 0])).await;
            yield_now().await;
        }
        let mut large = large.into_iter();
        let (_sender, first) = large.next().unwrap();
        assert_eq!(first.await.unwrap(), Some(Code::Unavailable));
        // A message is charged as it arrives: the others have room for the prefixes, not for the messages.
        let (mut sender, second) = large.next().unwrap();
        assert!(!second.is_finished(), "a message was charged as it was announced");
        sender.send_data(vec![0; CALL_BYTES].into()).await.unwrap();
        assert_eq!(second.await.unwrap(), Some(Code::Unavailable));
        drop(small_ends);
        assert_eq!(code(small).await, None);
        for (sender, call) in large {
            drop(sender);
            assert_eq!(call.await.unwrap(), None);
        }
        assert!(layer.0.small.is_empty() && layer.0.large.is_empty());
    }

    #[test]
    fn the_memory_of_a_large_message_grows_with_its_bytes() {
        let bytes_max = ContactMethod::StreamProfilePictures.request_bytes_max();
        let length = u32::try_from(bytes_max).unwrap().to_be_bytes();
        let mut whole = [&[0][..], &length].concat();
        whole.resize(PREFIX_BYTES + bytes_max, b'1');
        for size in [1_000, 16_384, 1 << 20, whole.len()] {
            let mut message = Arriving::new(ContactMethod::StreamProfilePictures, ());
            for part in whole.chunks(size) {
                message.take(part);
                let (read, capacity) = (message.read.len(), message.read.capacity());
                assert!(capacity <= (2 * read).min(whole.len()), "{capacity} bytes for {read}");
            }
            assert_eq!(message.read, whole, "parts of {size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_leaves_before_the_end_gets_no_answer() {
        let mut service = MessageLayer::default()
            .layer(service_fn(|_: Request<RequestMessage>| async { Ok(Response::new(Body::empty())) }));
        let gone = StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from_static(b"\0"))), Err("reset")]));
        assert!(timeout(Duration::from_secs(1), service.call(Request::new(routed(gone)))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_too_large_is_refused_as_soon_as_it_is_announced() {
        let whole = [&[0, 0, 0, 0x40, 0][..], &[b'1'; MESSAGE_BYTES_MAX]].concat();
        assert_eq!(call(&[&whole]).await, Ok(whole.clone()));
        assert_eq!(call(&[&whole, b"1"]).await, Err(Code::ResourceExhausted));
        assert_eq!(call(&[&[0, 0, 0, 0x40, 1]]).await, Err(Code::ResourceExhausted));
        assert_eq!(call(&[&[0, 0, 0], &[0x40, 1, b'1']]).await, Err(Code::ResourceExhausted));
    }
}
