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

/// Time for the TLS handshake and the HTTP/2 preface together. A peer that takes longer has nothing to ask.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls in progress on one connection; announced, so that clients queue what is beyond it or open another connection.
const STREAMS_MAX: u32 = 256;
/// All metadata of a call; announced. Beyond it the call is refused.
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
        Ok(Err(error)) => debug!(%error, "closed a connection that did not begin"),
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
            debug!(%error, "connection ended in an error");
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
