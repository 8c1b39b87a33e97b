//! [`Activity`]: notices that the peer of a connection is idle, stops in the middle of a request, or does not
//! read its responses.
//!
//! Not here: bytes that the system has taken and the peer has not. The system has a limit of its own for
//! them.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceExt};

use crate::server::{SlowReader, Watched};

/// Interval of the looks at a connection. The times below are exceeded by up to twice this interval.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time for the first request of a connection, and for the rest of an HTTP/1.1 request that has begun.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a request after which a connection is closed. Proxies and browsers keep connections for about
/// as long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for the system to take more bytes of a response. It takes none while its buffer is full, because the
/// peer does not read.
const UNWRITTEN_TIMEOUT: Duration = Duration::from_secs(30);

/// The activity of a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    reader: SlowReader,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The requests so far.
    requests: AtomicUsize,
    /// Whether the last request came by HTTP/1.1, in which bytes after it are the beginning of another one.
    is_http1: AtomicBool,
    /// Whether bytes have arrived that belong to no request so far.
    has_begun: AtomicBool,
    /// Whether the bytes so far end with an empty line, and so with the head of a request.
    ends_with_head: AtomicBool,
    /// The number of bytes that were written.
    written: AtomicUsize,
    /// Whether the system takes no more bytes at present.
    is_blocked: AtomicBool,
}

impl Activity {
    /// Wraps the byte stream of the connection.
    pub fn noting<S>(&self, stream: S) -> Noted<S> {
        Noted { stream, tail: [0; 4], counts: self.counts.clone() }
    }

    /// Wraps the service of the connection.
    pub fn watch<S, B>(
        &self,
        service: S,
    ) -> Watched<
        impl Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future = S::Future>,
    >
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        B: Body<Data = Bytes>,
    {
        let counts = self.counts.clone();
        self.reader.watch(service.map_request(move |request: Request<Incoming>| {
            counts.requests.fetch_add(1, Relaxed);
            counts.is_http1.store(request.version() < Version::HTTP_2, Relaxed);
            // Bytes after the head of a request without a body have arrived with it: the next one has begun.
            let is_last = counts.ends_with_head.load(Relaxed) || !request.body().is_end_stream();
            counts.has_begun.store(!is_last, Relaxed);
            request
        }))
    }

    /// Whether no response is in flight.
    pub fn is_idle(&self) -> bool {
        self.reader.is_idle()
    }

    /// Resolves when the connection has had its first request, at the latest after `limit`.
    pub async fn first_request(&self, limit: Duration) {
        let begun = async {
            while self.requests() == 0 {
                sleep(limit / 20).await;
            }
        };
        let _ = timeout(limit, begun).await;
    }

    /// Resolves when the connection has been idle for too long.
    pub async fn idle(&self) {
        self.unchanged(IDLE_TIMEOUT, |requests| requests > 0).await;
    }

    /// Resolves when a request has been on its way for too long.
    pub async fn stalled(&self) {
        let Counts { is_http1, has_begun, .. } = &*self.counts;
        let on_its_way = |requests| requests == 0 || (is_http1.load(Relaxed) && has_begun.load(Relaxed));
        self.unchanged(HEAD_TIMEOUT, on_its_way).await;
    }

    /// Resolves when the peer has left a part of a response unread for too long.
    pub async fn unread(&self) {
        tokio::select! {
            () = self.reader.detected() => {}
            () = self.unwritten() => {}
        }
    }

    /// Resolves when the system has taken no byte of what is to be written for too long.
    async fn unwritten(&self) {
        let Counts { written, is_blocked, .. } = &*self.counts;
        let (mut since, mut last) = (Instant::now(), written.load(Relaxed));
        // A change may be as old as the look before it.
        while since.elapsed() < UNWRITTEN_TIMEOUT + INTERVAL {
            sleep(INTERVAL).await;
            let written = written.load(Relaxed);
            if written != last || !is_blocked.load(Relaxed) {
                (since, last) = (Instant::now(), written);
            }
        }
    }

    /// Resolves when, for all of `limit`, no response was in flight, no request came, and `holds` was true of
    /// the number of requests.
    async fn unchanged(&self, limit: Duration, holds: impl Fn(usize) -> bool) {
        let (mut since, mut last) = (Instant::now(), self.requests());
        // A change may be as old as the look before it.
        while since.elapsed() < limit + INTERVAL {
            sleep(INTERVAL).await;
            let requests = self.requests();
            if requests != last || !self.is_idle() || !holds(requests) {
                (since, last) = (Instant::now(), requests);
            }
        }
    }

    fn requests(&self) -> usize {
        self.counts.requests.load(Relaxed)
    }
}

/// A byte stream that notes when bytes arrive and when none are taken.
#[derive(Debug)]
pub struct Noted<S> {
    stream: S,
    /// The last bytes that have arrived.
    tail: [u8; 4],
    counts: Arc<Counts>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, tail, counts } = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(stream).poll_read(context, buffer);
        let arrived = &buffer.filled()[before..];
        if !arrived.is_empty() {
            for &byte in &arrived[arrived.len().saturating_sub(tail.len())..] {
                tail.rotate_left(1);
                tail[3] = byte;
            }
            let ends = tail == b"\r\n\r\n" || tail.ends_with(b"\n\n");
            counts.ends_with_head.store(ends, Relaxed);
            counts.has_begun.store(true, Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, counts, .. } = self.get_mut();
        let written = Pin::new(stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            counts.written.fetch_add(*count, Relaxed);
        }
        counts.is_blocked.store(written.is_pending(), Relaxed);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, counts, .. } = self.get_mut();
        let flushed = Pin::new(stream).poll_flush(context);
        // Only the last write says whether bytes wait in front of this stream.
        if flushed.is_pending() {
            counts.is_blocked.store(true, Relaxed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
