//! [`MessageLayer`]: a call's one message, whole before anything else is done for the call.
//!
//! As a rule it has come together with the call. A peer that announces calls and does not send their messages takes places
//! for waiting, from others that send in pieces and from no one else; what is too large is refused as soon as it says so.

use std::{
    convert::Infallible,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, Either, ready};
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{
    domain::LookupError,
    grpc::{MESSAGE_BYTES_MAX, PREFIX_BYTES, status},
};

/// For services whose methods take one message. Streams of requests need another.
#[derive(Clone, Debug)]
pub struct MessageLayer(Arc<Semaphore>);

/// Calls that wait for their messages, over all connections; beyond it one that would have to is refused. A waiting call
/// takes some 3 KiB.
const WAITING_MAX: usize = 16 * 1024;

impl Default for MessageLayer {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_MAX)))
    }
}

impl<S> Layer<S> for MessageLayer {
    type Service = Messages<S>;

    fn layer(&self, inner: S) -> Messages<S> {
        Messages { inner, places: self.0.clone() }
    }
}

/// A service that is called once the message is there.
#[derive(Clone, Debug)]
pub struct Messages<S> {
    inner: S,
    places: Arc<Semaphore>,
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
        let mut message = Arriving { body, read: Bytes::new() };
        // Nobody is woken by this look: what is not there yet is asked for again.
        if let Poll::Ready(Ok(message)) = message.poll(&mut Context::from_waker(Waker::noop())) {
            return Either::Left(self.inner.call(Request::from_parts(parts, message)));
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Either::Right(Box::pin(ready(Ok(status(&LookupError::Overloaded).into_http()))));
        };
        let mut inner = self.inner.clone();
        Either::Right(Box::pin(async move {
            let message = poll_fn(|context| message.poll(context)).await;
            drop(place);
            match message {
                Ok(message) => inner.call(Request::from_parts(parts, message)).await,
                Err(error) => Ok(status(&error).into_http()),
            }
        }))
    }
}

/// A message of which `read` has come.
struct Arriving<B> {
    body: B,
    read: Bytes,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Arriving<B> {
    /// The message and its prefix, or all that came when it ended before.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, LookupError>> {
        loop {
            if is_too_large(&self.read) {
                return Poll::Ready(Err(LookupError::MessageTooLarge));
            }
            if self.body.is_end_stream() {
                return Poll::Ready(Ok(mem::take(&mut self.read)));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not part of a message.
                    if let Ok(data) = frame.into_data() {
                        self.read = joined(mem::take(&mut self.read), data);
                    }
                }
                Poll::Ready(None) => return Poll::Ready(Ok(mem::take(&mut self.read))),
                // The peer is gone; nobody will read what is said.
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(LookupError::Internal)),
            }
        }
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    let mut both = BytesMut::from(first);
    both.extend_from_slice(&second);
    both.freeze()
}

/// Whether `read` is more than a call may send, or announces it.
fn is_too_large(read: &[u8]) -> bool {
    let announced = read.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
    let announced = announced.map_or(0, |length| u32::from_be_bytes(length) as usize);
    announced > MESSAGE_BYTES_MAX || read.len() > PREFIX_BYTES + MESSAGE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt, Full, channel::Channel};
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
    async fn calls_beyond_those_that_may_wait_are_refused_unless_their_message_is_there() {
        let layer = MessageLayer(Arc::new(Semaphore::new(1)));
        let service = layer.layer(service_fn(|_: Request<Bytes>| async { Ok(Response::new(Body::empty())) }));
        let code = async |body| {
            let Ok(response) = service.clone().oneshot(Request::new(body)).await;
            Status::from_header_map(response.headers()).map(|status| status.code())
        };
        let announced = || Channel::<Bytes>::new(1);
        let (_first, body) = announced();
        let first = service.clone().call(Request::new(body));
        let (_second, body) = announced();
        assert_eq!(code(body).await, Some(Code::Unavailable));
        let (sender, body) = announced();
        drop(sender);
        assert_eq!(code(body).await, None);
        drop(first);
        let (third, body) = announced();
        let third = async {
            yield_now().await;
            drop(third);
        };
        assert_eq!(tokio::join!(code(body), third).0, None);
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
