//! [`Peer`]: a peer that sends scripted frames, and the connection that it has.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::watch,
    task::JoinHandle,
};
use tonic::body::Body;
use tower::service_fn;

use super::super::{HalfClose, Prefaced, Terms, serve};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The last stream of a GOAWAY that allows every stream.
pub const MAX_STREAM: u32 = 0x7fff_ffff;
/// The length of a response with a link. With vectored writes, h2 flushes a response of that length on its
/// own.
pub const ANSWER_BYTES: usize = 300;

/// A socket with the methods of a real one, which counts its writes.
pub struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, SeqCst);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, SeqCst);
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A peer that sends scripted frames, and its connection.
pub struct Peer {
    pub stream: DuplexStream,
    pub writes: Arc<AtomicUsize>,
    pub leaving: watch::Sender<bool>,
    /// Calls are answered while this is `true`.
    pub open: watch::Sender<bool>,
    /// The responses to the next calls. Other calls get the usual answer.
    pub responses: Responses,
    pub served: JoinHandle<()>,
}

type Responses = Arc<Mutex<Vec<Response<Body>>>>;

/// A frame without its length.
#[derive(Debug)]
pub struct Received {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn call(stream: u32) -> Vec<u8> {
    let message = frame(DATA, END_STREAM, stream, &[0; 5]);
    [headers(stream), message].concat()
}

pub fn headers(stream: u32) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")];
    // Literals without indexing (RFC 7541, 6.2.2).
    let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value)| [vec![0], string(name), string(value)].concat();
    let fields: Vec<_> = fields.into_iter().flat_map(field).collect();
    frame(HEADERS, END_HEADERS, stream, &fields)
}

pub fn answer() -> Response<Body> {
    let name = http::HeaderName::from_static("grpc-status");
    let trailers = HeaderMap::from_iter([(name, http::HeaderValue::from_static("0"))]);
    let data = Bytes::from_static(&[b'1'; ANSWER_BYTES]);
    let frames = [Frame::data(data), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    Response::new(Body::new(StreamBody::new(stream::iter(frames))))
}

impl Peer {
    /// A connection after the exchange of settings, to a service that answers at once.
    pub async fn connect() -> Self {
        Self::with_settings(&[]).await
    }

    pub async fn with_settings(settings: &[u8]) -> Self {
        Self::with(settings, None).await
    }

    /// A connection with a maximum age.
    pub async fn with(settings: &[u8], age_max: Option<Duration>) -> Self {
        let open = watch::Sender::new(true);
        let is_open = open.subscribe();
        let responses = Responses::default();
        let scripted = responses.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let (mut is_open, response) = (is_open.clone(), scripted.lock().pop());
            async move {
                is_open.wait_for(|open| *open).await.unwrap();
                Ok(response.unwrap_or_else(answer))
            }
        });
        let (stream, socket) = duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Counted { stream: socket, writes: writes.clone() };
        let (leaving, listening) = watch::channel(false);
        let terms = Terms { tls: None, age_max, leaving: listening };
        // In a task as in the server, so that the scheduler decides when the connection is polled.
        let served = tokio::spawn(async move {
            let stream = Prefaced::read(HalfClose::new(counted)).await.unwrap();
            serve(stream, service, terms).await;
        });
        let mut peer = Self { stream, writes, leaving, open, responses, served };
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
        peer.until(|kind, flags| kind == SETTINGS && flags == ACK).await;
        peer.send(&frame(SETTINGS, ACK, 0, &[])).await;
        peer
    }

    /// Sends bytes that arrive together.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads the next frame.
    pub async fn receive(&mut self) -> Received {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        Received { kind, flags, stream: u32::from_be_bytes(stream), payload }
    }

    /// Reads up to the first frame whose kind and flags are `wanted`, and returns its payload.
    pub async fn until(&mut self, wanted: impl Fn(u8, u8) -> bool) -> Vec<u8> {
        loop {
            let frame = self.receive().await;
            if wanted(frame.kind, frame.flags) {
                return frame.payload;
            }
        }
    }

    /// Reads up to the next GOAWAY, and returns the last stream that it allows.
    pub async fn goaway(&mut self) -> u32 {
        let payload = self.until(|kind, _| kind == GOAWAY).await;
        u32::from_be_bytes(payload[..4].try_into().unwrap())
    }

    /// Reads up to the end of `count` answers.
    pub async fn answers(&mut self, count: usize) {
        for _ in 0..count {
            self.until(|kind, flags| kind == HEADERS && flags & END_STREAM != 0).await;
        }
    }
}
