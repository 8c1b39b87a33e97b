//! One connection: from its first byte, which must come soon, to its GOAWAY.

use std::{convert::Infallible, io, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt};
use tracing::debug;

use super::{
    batch::Batch,
    observe::Answer,
    preface::Prefaced,
    tls::{PeerNames, Tls},
    unread::Unread,
};
use crate::telemetry::chain;

/// Time for the TLS handshake and the HTTP/2 preface together. A peer that takes longer has nothing to ask.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls in progress on one connection; announced, so that clients queue what is beyond it or open another connection.
const STREAMS_MAX: u32 = 256;
/// All metadata of a call; announced. Beyond it the call is refused, and far beyond it h2 ends the connection.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that the peer's own faults made us reset, beyond which the connection is closed (CVE-2023-44487 and its like).
const LOCAL_RESETS_MAX: usize = 128;
/// Streams that the peer opened and reset before we looked at them, beyond which the connection is closed.
const PENDING_RESETS_MAX: usize = 128;
/// Answers that wait for one stream's peer to open its window.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// An idle connection is asked this often whether its peer is there ...
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// ... and closed when it does not say so within this.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection must know beside its socket and its service.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Encryption, if there is any.
    pub tls: Option<Tls>,
    /// When the connection gets a GOAWAY for its age; calls in flight then finish in their own time.
    pub age_max: Option<Duration>,
    /// Whether the server is stopping.
    pub leaving: watch::Receiver<bool>,
}

/// Serves one connection until the peer closes it, or until the server is leaving and its calls have ended.
pub async fn converse<S>(stream: TcpStream, service: S, terms: Terms)
where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Small answers must not wait for more of them. A socket that refuses is closing anyway.
    let _ = stream.set_nodelay(true);
    let opening = async {
        match &terms.tls {
            None => Ok((Either::Plain(Prefaced::read(stream).await?), None)),
            Some(tls) => {
                let (stream, names) = tls.accept(stream).await?;
                Ok((Either::Encrypted(Prefaced::read(stream).await?), names))
            }
        }
    };
    // Not cut short when the server leaves: the first call may be on its way already, and would be lost.
    let opened: Result<io::Result<_>, _> = timeout(OPENING_TIMEOUT, opening).await;
    match opened {
        Ok(Ok((Either::Plain(stream), _))) => serve(stream, service, terms).await,
        Ok(Ok((Either::Encrypted(stream), names))) => {
            serve(stream, service.map_request(named(names)), terms).await;
        }
        Ok(Err(error)) => debug!(error = chain(&error), "closed a connection that did not begin"),
        Err(_) => debug!("closed a connection whose peer took too long to begin"),
    }
}

/// The two kinds of connection, each with its own fast path.
enum Either<P, E> {
    Plain(P),
    Encrypted(E),
}

/// Tells each request who its peer is, by the client certificate.
fn named<B>(names: Option<PeerNames>) -> impl Fn(Request<B>) -> Request<B> + Clone {
    move |mut request| {
        if let Some(names) = &names {
            request.extensions_mut().insert(names.clone());
        }
        request
    }
}

async fn serve<IO, S>(stream: IO, service: S, mut terms: Terms)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (batch, unread) = (Batch::default(), Unread::default());
    let connection = http2::Builder::new(batch.intake())
        .timer(TokioTimer::new())
        // gRPC has no use for it.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), unread.watch(service));
    tokio::pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = batch.drive(connection.as_mut()) => return ended,
            () = ending(&mut terms) => connection.as_mut().graceful_shutdown(),
        }
        batch.drive(connection).await
    };
    tokio::select! {
        ended = conversation => if let Err(error) = ended {
            // Not its sources: they repeat what the peer may write into its GOAWAY.
            debug!(error = error.to_string(), "connection ended in an error");
        },
        () = unread.too_long() => debug!("closed a connection whose peer does not read its answers"),
    }
}

/// Resolves when the connection is old, or the server is leaving.
async fn ending(terms: &mut Terms) {
    match terms.age_max {
        None => told(&mut terms.leaving).await,
        Some(age) => tokio::select! {
            () = sleep(age) => {}
            () = told(&mut terms.leaving) => {}
        },
    }
}

/// Resolves once the server is leaving, or gone.
async fn told(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
        task::JoinHandle,
        time::Instant,
    };
    use tonic::body::Body;
    use tower::{Layer, service_fn};

    use super::*;
    use crate::{server::ObserveLayer, telemetry::Metrics};

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    const END_HEADERS: u8 = 4;
    /// As long as an answer with a link, and longer than what h2 writes on its own when it may write vectored.
    const ANSWER_BYTES: usize = 300;

    /// A socket that offers all a real one does, and counts its writes.
    struct Counted {
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

    /// A peer that sends frames as it is told to, and the connection it has.
    struct Peer {
        stream: DuplexStream,
        writes: Arc<AtomicUsize>,
        leaving: watch::Sender<bool>,
        served: JoinHandle<()>,
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn call(stream: u32) -> Vec<u8> {
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")];
        // Literals that no table remembers (RFC 7541, 6.2.2).
        let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let field = |(name, value)| [vec![0], string(name), string(value)].concat();
        let fields: Vec<_> = fields.into_iter().flat_map(field).collect();
        let message = frame(DATA, END_STREAM, stream, &[0; 5]);
        [frame(HEADERS, END_HEADERS, stream, &fields), message].concat()
    }

    impl Peer {
        /// A connection whose settings are exchanged, to a service that answers at once.
        async fn connect() -> Self {
            Self::with_settings(&[]).await
        }

        async fn with_settings(settings: &[u8]) -> Self {
            let service = service_fn(|_: Request<Incoming>| async {
                let trailers = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                let data = Bytes::from_static(&[b'1'; ANSWER_BYTES]);
                let frames = [Frame::data(data), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
                Ok(Response::new(Body::new(StreamBody::new(stream::iter(frames)))))
            });
            let service = ObserveLayer::new(Metrics::new(&[]).calls.clone(), None).layer(service);
            let (stream, socket) = duplex(1 << 20);
            let writes = Arc::new(AtomicUsize::new(0));
            let counted = Counted { stream: socket, writes: writes.clone() };
            let (leaving, listening) = watch::channel(false);
            let terms = Terms { tls: None, age_max: None, leaving: listening };
            // In a task, as in the server: there the scheduler has a say in when the connection is polled.
            let served = tokio::spawn(async move {
                serve(Prefaced::read(counted).await.unwrap(), service, terms).await;
            });
            let mut peer = Self { stream, writes, leaving, served };
            peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
            peer.until(|kind, flags| kind == SETTINGS && flags == ACK).await;
            peer.send(&frame(SETTINGS, ACK, 0, &[])).await;
            peer
        }

        /// All of it arrives together.
        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// Reads up to the first frame of a kind and with flags that are `wanted`; its payload.
        async fn until(&mut self, wanted: impl Fn(u8, u8) -> bool) -> Vec<u8> {
            loop {
                let mut head = [0; 9];
                self.stream.read_exact(&mut head).await.unwrap();
                let [a, b, c, kind, flags, ..] = head;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                self.stream.read_exact(&mut payload).await.unwrap();
                if wanted(kind, flags) {
                    return payload;
                }
            }
        }

        /// Reads up to the end of `count` answers.
        async fn answers(&mut self, count: usize) {
            for _ in 0..count {
                self.until(|kind, flags| kind == HEADERS && flags & END_STREAM != 0).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_peer_that_leaves_answers_unread_is_closed() {
        // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
        for (window, closed) in [(0_u32, true), (1, true), (65_535, false)] {
            let mut peer = Peer::with_settings(&[&[0, 4][..], &window.to_be_bytes()].concat()).await;
            let begin = Instant::now();
            peer.send(&call(1)).await;
            // Before the server closes it for a ping that is not answered.
            let ended = timeout(PING_INTERVAL + PING_TIMEOUT / 2, &mut peer.served).await;
            assert_eq!(ended.is_ok(), closed, "a window of {window}");
            assert!(begin.elapsed() >= Duration::from_secs(30), "a window of {window}");
        }
    }

    /// On a worker of the scheduler that production has: it would run the connection after each call that is a task.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn calls_that_came_together_are_answered_in_one_write() {
        const CALLS: u32 = 20;
        let mut peer = Peer::connect().await;
        let first = |round: u32| 1 + round * 2 * CALLS;
        for round in 0..10 {
            let before = peer.writes.load(SeqCst);
            let calls: Vec<_> = (0..CALLS).flat_map(|index| call(first(round) + 2 * index)).collect();
            peer.send(&calls).await;
            peer.answers(CALLS as usize).await;
            // The first write may have been for settings.
            let writes = peer.writes.load(SeqCst) - before;
            assert!(writes <= 1 + usize::from(round == 0), "{writes} writes for {CALLS} answers");
        }
    }

    #[tokio::test]
    async fn a_call_that_was_on_its_way_when_the_connection_was_told_to_go_is_answered() {
        let mut peer = Peer::connect().await;
        peer.leaving.send_replace(true);
        let last = peer.until(|kind, _| kind == GOAWAY).await;
        assert_eq!(last[..4], [0x7f, 0xff, 0xff, 0xff], "no call is refused yet");
        let ping = peer.until(|kind, flags| kind == PING && flags != ACK).await;
        peer.send(&call(1)).await;
        peer.answers(1).await;
        peer.send(&frame(PING, ACK, 0, &ping)).await;
        let last = peer.until(|kind, _| kind == GOAWAY).await;
        assert_eq!(last[..4], [0, 0, 0, 1], "the call that was answered");
        peer.served.await.unwrap();
    }
}
