//! One connection: the handshake within a time limit, HTTP/2 and its limits, and the GOAWAY at its end.

mod batch;
mod half_close;
mod last_goaway;
mod preface;
mod slow_reader;
mod tls;

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tower::{BoxError, Service, ServiceExt};
use tracing::debug;

pub use self::tls::{Tls, TlsFault, TlsFile, TlsSettings};
use self::{
    batch::Batch,
    half_close::{HalfClose, LINGER},
    last_goaway::{Ending, LastGoaway},
    preface::Prefaced,
    slow_reader::SlowReader,
};
use super::drain::announced;
use crate::{domain::PeerNames, telemetry::chain};

/// Time for the TLS handshake and the HTTP/2 preface together. A client needs a few round trips for them.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of calls in progress on one connection. The server announces it, so that clients queue
/// further calls or open another connection.
const STREAMS_MAX: u32 = 256;
/// Maximum size of a call's metadata that h2 accepts; the server announces it. It is twice the limit of
/// `calls::guard`, so that the guard can refuse a call with a gRPC status. When a call has more, h2 answers
/// with HTTP status 431; when it has far more, h2 ends the connection.
const HEADER_LIST_BYTES_MAX: u32 = 32 * 1024;
/// Maximum number of streams that the server resets for faults of the peer. With more, the connection is
/// closed (CVE-2023-44487 and similar attacks).
const LOCAL_RESETS_MAX: usize = 128;
/// Maximum number of streams that the peer opens and resets before the server accepts them. With more, the
/// connection is closed.
const PENDING_RESETS_MAX: usize = 128;
/// Maximum number of bytes of one stream's response that are buffered until the peer opens its window.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Interval of the PINGs on an idle connection.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// Time for the peer to acknowledge such a PING. After that the connection is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for a peer to acknowledge the PING that follows the first GOAWAY. It is also the time that a
/// connection still has for its handshake once the server stops. It is longer than any round trip. An idle
/// client that does not acknowledge the PING makes a drain this much longer.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of one connection.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Encryption; with `None`, the connection is plain text.
    pub tls: Option<Tls>,
    /// Age at which the connection gets a GOAWAY. Calls in flight then have as long as they need.
    pub age_max: Option<Duration>,
    /// Turns `true` when the server stops.
    pub leaving: watch::Receiver<bool>,
}

/// Serves one connection until the peer closes it, or until the server stops and the calls of the connection
/// have ended.
pub async fn converse<S, A>(stream: TcpStream, service: S, terms: Terms)
where
    S: Service<Request<Incoming>, Response = Response<A>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    A: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    // Nagle's algorithm would delay small responses. A socket that refuses the option is closing already.
    let _ = stream.set_nodelay(true);
    let opening = async {
        match &terms.tls {
            None => Ok((Either::Plain(Prefaced::read(HalfClose::new(stream)).await?), None)),
            Some(tls) => {
                let (stream, names) = tls.accept(stream).await?;
                Ok((Either::Encrypted(Prefaced::read(HalfClose::new(stream)).await?), names))
            }
        }
    };
    let too_long = opening_timeout(terms.leaving.clone());
    let opened: io::Result<_> = tokio::select! {
        opened = opening => opened,
        () = too_long => return debug!("closed a connection whose peer took too long to begin"),
    };
    match opened {
        Ok((Either::Plain(stream), _)) => serve(stream, service, terms).await,
        Ok((Either::Encrypted(stream), names)) => {
            serve(stream, service.map_request(with_names(names)), terms).await;
        }
        Err(error) => debug!(error = chain(&error), "closed a connection that did not begin"),
    }
}

/// Resolves when the time for the handshake is over. When the server stops, the connection is not closed at
/// once: its first call may be on its way already, and would be lost.
async fn opening_timeout(mut leaving: watch::Receiver<bool>) {
    let cut_short = async {
        announced(&mut leaving).await;
        sleep(LEAVING_TIMEOUT).await;
    };
    let _ = timeout(OPENING_TIMEOUT, cut_short).await;
}

/// A plain or an encrypted stream. They are served by different instances of [`serve`], so that a plain one
/// has no dispatch.
enum Either<P, E> {
    Plain(P),
    Encrypted(E),
}

/// Adds the names in the client certificate to each request.
fn with_names<B>(names: Option<PeerNames>) -> impl Fn(Request<B>) -> Request<B> + Clone {
    move |mut request| {
        if let Some(names) = &names {
            request.extensions_mut().insert(names.clone());
        }
        request
    }
}

async fn serve<IO, S, A>(stream: IO, service: S, mut terms: Terms)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<A>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    A: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (batch, reader, end) = (Batch::default(), SlowReader::default(), Ending::default());
    let stream = LastGoaway::new(stream, end.clone());
    let connection = http2::Builder::new(batch.executor())
        .timer(TokioTimer::new())
        // gRPC clients do not read it.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), reader.watch(service));
    tokio::pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = batch.drive(connection.as_mut()) => return ended,
            () = ending(&mut terms) => {
                end.begin();
                connection.as_mut().graceful_shutdown();
            }
        }
        tokio::select! {
            ended = batch.drive(connection.as_mut()) => return ended,
            () = sleep(LEAVING_TIMEOUT) => end.acknowledge(),
        }
        tokio::select! {
            ended = batch.drive(connection) => ended,
            () = idle(&reader) => {
                debug!("closed a connection whose peer does not let it end");
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = conversation => if let Err(error) = ended {
            // The sources of the error are not logged, because they repeat the text that the peer wrote into
            // its GOAWAY.
            debug!(error = error.to_string(), "connection ended in an error");
        },
        () = reader.detected() => debug!("closed a connection whose peer does not read its answers"),
    }
}

/// Resolves when no call is in flight that would be lost, some time after the last GOAWAY was due. Usually
/// the connection has ended by then. It has not ended if its peer stopped in the middle of a frame, because
/// no acknowledgement can be inserted there, or if its peer does not read, because no GOAWAY can be written.
async fn idle(reader: &SlowReader) {
    loop {
        sleep(LINGER).await;
        if reader.is_idle() {
            return;
        }
    }
}

/// Resolves when the connection has reached its maximum age, or the server stops.
async fn ending(terms: &mut Terms) {
    match terms.age_max {
        None => announced(&mut terms.leaving).await,
        Some(age) => tokio::select! {
            () = sleep(age) => {}
            () = announced(&mut terms.leaving) => {}
        },
    }
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
    use tower::service_fn;

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    const END_HEADERS: u8 = 4;
    /// The last stream of a GOAWAY that allows every stream.
    const MAX_STREAM: u32 = 0x7fff_ffff;
    /// The length of a response with a link. With vectored writes, h2 flushes a response of that length on
    /// its own.
    const ANSWER_BYTES: usize = 300;

    /// A socket with the methods of a real one, which counts its writes.
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

    /// A peer that sends scripted frames, and its connection.
    struct Peer {
        stream: DuplexStream,
        writes: Arc<AtomicUsize>,
        leaving: watch::Sender<bool>,
        /// Calls are answered while this is `true`.
        open: watch::Sender<bool>,
        served: JoinHandle<()>,
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn call(stream: u32) -> Vec<u8> {
        let message = frame(DATA, END_STREAM, stream, &[0; 5]);
        [headers(stream), message].concat()
    }

    fn headers(stream: u32) -> Vec<u8> {
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")];
        // Literals without indexing (RFC 7541, 6.2.2).
        let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let field = |(name, value)| [vec![0], string(name), string(value)].concat();
        let fields: Vec<_> = fields.into_iter().flat_map(field).collect();
        frame(HEADERS, END_HEADERS, stream, &fields)
    }

    fn answer() -> Response<Body> {
        let name = http::HeaderName::from_static("grpc-status");
        let trailers = HeaderMap::from_iter([(name, http::HeaderValue::from_static("0"))]);
        let data = Bytes::from_static(&[b'1'; ANSWER_BYTES]);
        let frames = [Frame::data(data), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        Response::new(Body::new(StreamBody::new(stream::iter(frames))))
    }

    impl Peer {
        /// A connection after the exchange of settings, to a service that answers at once.
        async fn connect() -> Self {
            Self::with_settings(&[]).await
        }

        async fn with_settings(settings: &[u8]) -> Self {
            let open = watch::Sender::new(true);
            let is_open = open.subscribe();
            let service = service_fn(move |_: Request<Incoming>| {
                let mut is_open = is_open.clone();
                async move {
                    is_open.wait_for(|open| *open).await.unwrap();
                    Ok(answer())
                }
            });
            let (stream, socket) = duplex(1 << 20);
            let writes = Arc::new(AtomicUsize::new(0));
            let counted = Counted { stream: socket, writes: writes.clone() };
            let (leaving, listening) = watch::channel(false);
            let terms = Terms { tls: None, age_max: None, leaving: listening };
            // In a task as in the server, so that the scheduler decides when the connection is polled.
            let served = tokio::spawn(async move {
                let stream = Prefaced::read(HalfClose::new(counted)).await.unwrap();
                serve(stream, service, terms).await;
            });
            let mut peer = Self { stream, writes, leaving, open, served };
            peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
            peer.until(|kind, flags| kind == SETTINGS && flags == ACK).await;
            peer.send(&frame(SETTINGS, ACK, 0, &[])).await;
            peer
        }

        /// Sends bytes that arrive together.
        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// Reads up to the first frame whose kind and flags are `wanted`, and returns its payload.
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

        /// Reads up to the next GOAWAY, and returns the last stream that it allows.
        async fn goaway(&mut self) -> u32 {
            let payload = self.until(|kind, _| kind == GOAWAY).await;
            u32::from_be_bytes(payload[..4].try_into().unwrap())
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
            // This is before the server closes the connection because a PING is not acknowledged.
            let ended = timeout(PING_INTERVAL + PING_TIMEOUT / 2, &mut peer.served).await;
            assert_eq!(ended.is_ok(), closed, "a window of {window}");
            assert!(begin.elapsed() >= Duration::from_secs(30), "a window of {window}");
        }
    }

    /// Runs on a worker of the multi-threaded scheduler, as in production. If each call had a task of its
    /// own, that scheduler would run the connection after each call.
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
            // The first write may be an acknowledgement of settings.
            let writes = peer.writes.load(SeqCst) - before;
            assert!(writes <= 1 + usize::from(round == 0), "{writes} writes for {CALLS} answers");
        }
    }

    #[tokio::test]
    async fn a_call_that_was_on_its_way_when_the_connection_was_told_to_go_is_answered() {
        let mut peer = Peer::connect().await;
        peer.leaving.send_replace(true);
        assert_eq!(peer.goaway().await, MAX_STREAM, "no call is refused yet");
        let ping = peer.until(|kind, flags| kind == PING && flags != ACK).await;
        peer.send(&call(1)).await;
        peer.answers(1).await;
        peer.send(&frame(PING, ACK, 0, &ping)).await;
        assert_eq!(peer.goaway().await, 1, "the call that was answered");
        drop(peer.stream);
        peer.served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_in_flight_outlives_all_that_crosses_the_last_goaway() {
        const RST_STREAM: u8 = 3;
        const PRIORITY: u8 = 2;
        const WINDOW_UPDATE: u8 = 8;
        let window_update = frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]);
        let message = frame(DATA, END_STREAM, 3, &[0; 5]);
        for crossing in [
            vec![],
            [headers(3), window_update.clone(), message.clone()].concat(),
            [call(3), window_update].concat(),
            [headers(3), frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])].concat(),
            [headers(3), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), message].concat(),
        ] {
            let mut peer = Peer::connect().await;
            peer.open.send_replace(false);
            peer.send(&call(1)).await;
            peer.leaving.send_replace(true);
            let ping = peer.until(|kind, flags| kind == PING && flags != ACK).await;
            // gRPC's C core writes the acknowledgement before the calls that it has queued.
            peer.send(&[frame(PING, ACK, 0, &ping), crossing.clone()].concat()).await;
            assert_eq!(peer.goaway().await, 1, "{crossing:?}");
            peer.open.send_replace(true);
            peer.answers(1).await;
            drop(peer.stream);
            peer.served.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_acknowledges_nothing_gets_the_last_goaway_and_is_closed() {
        let mut peer = Peer::connect().await;
        let begin = Instant::now();
        peer.leaving.send_replace(true);
        assert_eq!(peer.goaway().await, MAX_STREAM);
        assert_eq!(peer.goaway().await, 0);
        assert_eq!(begin.elapsed().as_secs(), LEAVING_TIMEOUT.as_secs());
        // The stream of this call is above the last stream of the GOAWAY, so the peer knows that the call was
        // not processed.
        peer.send(&call(1)).await;
        peer.served.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        let mut rest = Vec::new();
        peer.stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_in_flight_is_answered_though_its_peer_acknowledges_nothing() {
        let mut peer = Peer::connect().await;
        peer.open.send_replace(false);
        peer.send(&call(1)).await;
        peer.leaving.send_replace(true);
        assert_eq!(peer.goaway().await, MAX_STREAM);
        assert_eq!(peer.goaway().await, 1);
        sleep(10 * LEAVING_TIMEOUT).await;
        peer.open.send_replace(true);
        peer.answers(1).await;
        drop(peer.stream);
        peer.served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_in_the_middle_of_a_frame_is_closed_once_no_call_is_in_flight() {
        for in_flight in [false, true] {
            let mut peer = Peer::connect().await;
            peer.open.send_replace(false);
            let whole = if in_flight { call(1) } else { vec![] };
            peer.send(&[whole, headers(3)[..12].to_vec()].concat()).await;
            // The connection reads the frames in this time.
            sleep(Duration::from_millis(1)).await;
            peer.leaving.send_replace(true);
            let closed = timeout(2 * LEAVING_TIMEOUT, &mut peer.served).await;
            assert_eq!(closed.is_err(), in_flight);
            peer.open.send_replace(true);
            if in_flight {
                peer.answers(1).await;
                peer.served.await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_closed_when_the_server_leaves() {
        let mut peer = Peer::connect().await;
        // The peer sends PINGs until their acknowledgements fill the connection, so that no GOAWAY can be
        // written.
        let pings = frame(PING, 0, 0, &[0; 8]).repeat(1024);
        while timeout(Duration::from_millis(1), peer.stream.write_all(&pings)).await.is_ok() {}
        let begin = Instant::now();
        peer.leaving.send_replace(true);
        peer.served.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_less_time_to_begin_once_the_server_is_leaving() {
        let (leaving, listening) = watch::channel(false);
        let begin = Instant::now();
        opening_timeout(listening.clone()).await;
        assert_eq!(begin.elapsed().as_secs(), OPENING_TIMEOUT.as_secs());
        leaving.send_replace(true);
        opening_timeout(listening).await;
        assert_eq!(begin.elapsed().as_secs(), (OPENING_TIMEOUT + LEAVING_TIMEOUT).as_secs());
    }
}
