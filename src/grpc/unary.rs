//! The gRPC protocol over HTTP/2 for methods without streams: one message in, one message out. Batches and
//! streams read their message, and frame their answers, with the same functions.
//!
//! The code is hand-written, because tonic treats both as streams of one message, with eight more allocations
//! for each call, and reports an invalid message in the words of the decoder.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes};
use futures_util::future::{Either, Ready, ready};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::Message;
use tonic::{Status, body::Body};

use super::{Answered, status::status, timeout::call_end};
use crate::domain::{CallEnd, LookupError, Refusal};

/// The prefix of each message: whether it is compressed, and its length ("Length-Prefixed-Message" of the
/// protocol).
pub const PREFIX_BYTES: usize = 5;
/// Maximum size of a request for one contact, in bytes. The longest valid one has about 200 bytes. A larger
/// message, of a batch or a stream, is not decoded in the task of the connection.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The future of a unary call: refused at once, or handled by `F`.
pub type Call<F> = Either<Ready<Answered>, Unanswered<F>>;

/// Answers a unary call. `body` is read as the request message `M`; the future of `handle` resolves to the
/// response message, or to the error whose status the caller gets.
pub fn call<M, F, B>(
    request: &Request<B>,
    body: &[u8],
    handle: impl FnOnce(M) -> Result<F, Refusal>,
) -> Call<F>
where
    M: Message + Default,
{
    let end = call_end(request.headers(), request.extensions());
    match read(request.headers(), body).and_then(handle) {
        Ok(handler) => Either::Right(Unanswered { handler, end }),
        Err(error) => Either::Left(ready(Ok(status(&error, end).into_http()))),
    }
}

pin_project! {
    /// A unary call whose handler has not answered yet.
    #[derive(Debug)]
    pub struct Unanswered<F> {
        #[pin]
        handler: F,
        end: CallEnd,
    }
}

impl<F, R> Future for Unanswered<F>
where
    F: Future<Output = Result<R, LookupError>>,
    R: Message,
{
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        Poll::Ready(Ok(match ready!(this.handler.poll(context)) {
            Ok(message) => reply(&message),
            Err(error) => status(&error, *this.end).into_http(),
        }))
    }
}

/// Reads the body of a request.
///
/// # Errors
///
/// Those of [`message`], and [`Refusal::MessageInvalid`] when the message is not of this type.
fn read<M: Message + Default>(headers: &HeaderMap, body: &[u8]) -> Result<M, Refusal> {
    M::decode(message(headers, body)?).map_err(|_| Refusal::MessageInvalid)
}

/// The encoded message in the body of a request.
///
/// # Errors
///
/// [`Refusal::CompressionUnsupported`] when `headers` announce a compression, and [`Refusal::MessageInvalid`]
/// when the body is not exactly one message.
pub fn message<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<&'a [u8], Refusal> {
    if headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity") {
        return Err(Refusal::CompressionUnsupported);
    }
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>().ok_or(Refusal::MessageInvalid)?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(Refusal::MessageInvalid);
    }
    Ok(message)
}

/// The whole answer to a call that succeeded.
///
/// # Panics
///
/// When the message has 4 GiB or more, which the protocol cannot send.
pub fn reply(message: &impl Message) -> Response<Body> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + message.encoded_len());
    append(message, &mut bytes);
    response(Reply::Message(bytes.into()))
}

/// The head of a response whose messages and trailers are in `body`.
pub fn response<B>(body: B) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error = Status> + Send + 'static,
{
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Appends `message` and its prefix to `bytes`.
///
/// # Panics
///
/// When the message has 4 GiB or more, which the protocol cannot send.
pub fn append(message: &impl Message, bytes: &mut Vec<u8>) {
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len().try_into().expect("a message that can be sent"));
    message.encode(bytes).expect("a vector grows");
}

/// The trailers of a call that succeeded.
pub fn trailers_ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    trailers
}

/// The part of an answer that is still to be sent.
enum Reply {
    Message(Bytes),
    Trailers,
    Nothing,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        Poll::Ready(match std::mem::replace(this, Self::Nothing) {
            Self::Message(message) => {
                *this = Self::Trailers;
                Some(Ok(Frame::data(message)))
            }
            Self::Trailers => Some(Ok(Frame::trailers(trailers_ok()))),
            Self::Nothing => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        // The size is left unknown on purpose: hyper would send it as content-length, which gRPC does not
        // use.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn read_string(encoding: &'static str, body: &[u8]) -> Result<String, Refusal> {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-encoding"),
            HeaderValue::from_static(encoding),
        )]);
        read(&headers, body)
    }

    #[test]
    fn a_body_is_exactly_one_message() {
        assert_eq!(read_string("identity", b"\0\0\0\0\x04\x0a\x02hi"), Ok("hi".to_owned()));
        assert_eq!(read_string("identity", b"\0\0\0\0\0"), Ok(String::new()));
        for body in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x05\x0a\x02hi",
            b"\0\0\0\0\x03\x0a\x02hi",
            b"\0\0\0\0\0\0\0\0\0\0",
            b"\x01\0\0\0\x04\x0a\x02hi",
            b"\0\0\0\0\x03\x0a\x02h",
            b"\0\0\0\0\x03\x0a\x01\xff",
        ] {
            assert_eq!(read_string("identity", body), Err(Refusal::MessageInvalid), "{body:?}");
        }
        assert_eq!(read_string("gzip", b"\x01\0\0\0\x04\x0a\x02hi"), Err(Refusal::CompressionUnsupported));
    }

    #[tokio::test]
    async fn an_answer_is_a_message_and_trailers() {
        let response = reply(&"hi".to_owned());
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(&*body.to_bytes(), b"\0\0\0\0\x04\x0a\x02hi");
    }
}
