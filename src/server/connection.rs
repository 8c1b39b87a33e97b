//! One connection: the handshake within a time limit, HTTP/2 and its limits, and the GOAWAY at its end.

mod batch;
mod half_close;
mod last_goaway;
mod own_pace;
mod preface;
mod slow_reader;
mod tls;

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tower::{BoxError, Service, ServiceExt};
use tracing::debug;

use self::{
    batch::Batch,
    last_goaway::{Ending, LastGoaway},
    preface::Prefaced,
};
pub use self::{
    half_close::{HalfClose, LINGER},
    slow_reader::{SlowReader, Watched},
    tls::{Tls, TlsFault, TlsFile, TlsSettings},
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

impl Terms {
    /// The same terms with another maximum age, by up to a tenth, so that clients do not all reconnect at the
    /// same time.
    pub fn with_varied_age(self) -> Self {
        let age_max = self.age_max.map(|age| age.mul_f64(rand::rng().random_range(0.9..=1.1)));
        Self { age_max, ..self }
    }
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
mod tests;
