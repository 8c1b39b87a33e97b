//! [`MessageLayer`]: a call's one message, whole before anything else is done for the call.
//!
//! As a rule it has come together with the call. Where it has not, the call waits, in a place of its own; of too many that
//! wait, the one that has waited longest is refused: whoever sends its messages waits for milliseconds. What is too large is
//! refused as soon as it says so.

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

use super::room::{CALL_BYTES, Room};
use crate::{
    domain::Refusal,
    grpc::{MESSAGE_BYTES_MAX, PREFIX_BYTES, call_end, status},
};

/// For services whose methods take one message. Streams of requests need another.
#[derive(Clone, Debug)]
pub struct MessageLayer(Arc<Room>);

/// Memory for calls that wait, over all connections: enough for 11,000 of which nothing has come yet.
const ROOM_BYTES: usize = 11_000 * CALL_BYTES;

impl Default for MessageLayer {
    fn default() -> Self {
        Self(Arc::new(Room::of(ROOM_BYTES)))
    }
}

impl<S> Layer<S> for MessageLayer {
    type Service = Messages<S>;

    fn layer(&self, inner: S) -> Messages<S> {
        Messages { inner, room: self.0.clone() }
    }
}

/// A service that is called once the message is there.
#[derive(Clone, Debug)]
pub struct Messages<S> {
    inner: S,
    room: Arc<Room>,
}

type Answered = Result<Response<Body>, Infallible>;

impl<S, B> Service<Request<B>> for Messages<S>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    /// A message that is there already takes no block of memory for its future.
    type Future = Either<S::Future, BoxFuture<'static, Answered>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let mut message = Arriving { body, read: Vec::new(), is_broken_off: false };
        // Nobody is woken by this look: what is not there yet is asked for again.
        if let Poll::Ready(Ok(message)) = message.poll(&mut Context::from_waker(Waker::noop())) {
            return Either::Left(self.inner.call(Request::from_parts(parts, message)));
        }
        let end = call_end(&parts.headers, &parts.extensions);
        let (mut inner, mut place) = (self.inner.clone(), self.room.enter());
        Either::Right(Box::pin(async move {
            let message = poll_fn(|context| {
                let arrived = message.poll(context);
                place.hold(message.read.capacity());
                match arrived {
                    Poll::Pending => place.needed(context).map(|()| Err(Refusal::Overloaded)),
                    arrived @ Poll::Ready(_) => arrived,
                }
            });
            match message.await {
                Ok(message) => {
                    drop(place);
                    inner.call(Request::from_parts(parts, message)).await
                }
                Err(error) => Ok(status(&error, end).into_http()),
            }
        }))
    }
}

/// A message of which `read` has come, in a copy: a piece of a frame would keep the frame.
struct Arriving<B> {
    body: B,
    read: Vec<u8>,
    /// Whether the peer has left before the end.
    is_broken_off: bool,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Arriving<B> {
    /// The message and its prefix, or all that came when it ended before.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Refusal>> {
        loop {
            if self.is_broken_off {
                return Poll::Pending;
            }
            if is_too_large(&self.read) {
                return Poll::Ready(Err(Refusal::MessageTooLarge));
            }
            if self.body.is_end_stream() {
                return Poll::Ready(Ok(mem::take(&mut self.read).into()));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(whole)
                        if self.read.is_empty() && self.body.is_end_stream() && !is_too_large(&whole) =>
                    {
                        return Poll::Ready(Ok(whole));
                    }
                    Ok(piece) => self.take(&piece),
                    // Trailers are not part of a message.
                    Err(_) => {}
                },
                Poll::Ready(None) => return Poll::Ready(Ok(mem::take(&mut self.read).into())),
                // There is nobody to answer. hyper drops the call then, which is counted as one whose caller left.
                Poll::Ready(Some(Err(_))) => self.is_broken_off = true,
            }
        }
    }

    fn take(&mut self, piece: &[u8]) {
        self.read.extend_from_slice(piece);
        let whole = PREFIX_BYTES + announced(&self.read).min(MESSAGE_BYTES_MAX);
        self.read.reserve_exact(whole.saturating_sub(self.read.len()));
    }
}

/// How long the message is going to be, as far as it says.
fn announced(read: &[u8]) -> usize {
    let length = read.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
    length.map_or(0, |length| u32::from_be_bytes(length) as usize)
}

/// Whether `read` is more than a call may send, or announces it.
fn is_too_large(read: &[u8]) -> bool {
    announced(read) > MESSAGE_BYTES_MAX || read.len() > PREFIX_BYTES + MESSAGE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt, Full, StreamBody, channel::Channel};
    use tokio::{task::yield_now, time::timeout};
    use tonic::{Code, Status};
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// What the service behind the layer is called with when `frames` come one after the other, or the code of a refusal.
    async fn call(frames: &[&[u8]]) -> Result<Vec<u8>, Code> {
        let service = MessageLayer::default().layer(service_fn(|request: Request<Bytes>| async {
            Ok(Response::new(Body::new(Full::new(request.into_body()))))
        }));
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        tokio::spawn(async move {
            for frame in frames {
                yield_now().await;
                // Whoever refuses the first frame does not wait for the second.
                let _ = sender.send_data(frame).await;
            }
        });
        // In stopped time: it ends at once when nobody is going to be woken.
        let answer = timeout(Duration::from_secs(1), service.oneshot(Request::new(body))).await;
        let Ok(response) = answer.expect("whoever waits for a message is woken when it comes");
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
    async fn a_message_that_is_there_already_is_not_waited_for() {
        let mut service = MessageLayer::default()
            .layer(service_fn(|_: Request<Bytes>| async { Ok(Response::new(Body::empty())) }));
        let future = service.call(Request::new(Full::from("\0\0\0\0\0")));
        assert!(matches!(future, Either::Left(_)));
    }

    #[tokio::test]
    async fn of_too_many_that_wait_the_one_that_waited_longest_leaves() {
        /// The code of a call that fails. It has less time than the wait that the refusal tells.
        async fn code(call: impl Future<Output = Answered>) -> Option<Code> {
            let Ok(response) = call.await;
            let status = Status::from_header_map(response.headers())?;
            assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
            Some(status.code())
        }
        let layer = MessageLayer(Arc::new(Room::of(2 * CALL_BYTES)));
        let mut service =
            layer.layer(service_fn(|_: Request<Bytes>| async { Ok(Response::new(Body::empty())) }));
        let mut announce = || {
            let (sender, body) = Channel::<Bytes>::new(1);
            (sender, service.call(Request::builder().header("grpc-timeout", "500m").body(body).unwrap()))
        };
        let [(_first, first), (second_ends, second), (third_ends, third)] =
            [announce(), announce(), announce()];
        assert_eq!(code(first).await, Some(Code::Unavailable));
        drop(second_ends);
        assert_eq!(code(second).await, None);
        // There is room again.
        let (_fourth, fourth) = announce();
        drop(third_ends);
        assert_eq!(code(third).await, None);
        // Its message takes the room of two.
        let (mut fifth_sends, fifth) = announce();
        fifth_sends.send_data(vec![0; CALL_BYTES].into()).await.unwrap();
        let fifth = tokio::spawn(fifth);
        assert_eq!(code(fourth).await, Some(Code::Unavailable));
        fifth.abort();
        let _ = fifth.await;
        assert!(layer.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_leaves_before_the_end_gets_no_answer() {
        let mut service = MessageLayer::default()
            .layer(service_fn(|_: Request<Bytes>| async { Ok(Response::new(Body::empty())) }));
        let gone = StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from_static(b"\0"))), Err("reset")]));
        assert!(timeout(Duration::from_secs(1), service.call(Request::new(gone))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_is_refused_as_soon_as_it_says_so() {
        let whole = [&[0, 0, 0, 0x40, 0][..], &[b'1'; MESSAGE_BYTES_MAX]].concat();
        assert_eq!(call(&[&whole]).await, Ok(whole.clone()));
        assert_eq!(call(&[&whole, b"1"]).await, Err(Code::ResourceExhausted));
        assert_eq!(call(&[&[0, 0, 0, 0x40, 1]]).await, Err(Code::ResourceExhausted));
        assert_eq!(call(&[&[0, 0, 0], &[0x40, 1, b'1']]).await, Err(Code::ResourceExhausted));
    }
}
