//! The port of the avatars: HTTP/1.1 and HTTP/2 for browsers and proxies, with bounds on everything that a
//! peer can make grow or wait.
//!
//! Not here: the limit on requests in progress, which is in `routes`, and the accept loop, which is the gRPC
//! server's. hyper's own time-out for the head of a request also ends idle connections, and a proxy keeps
//! those for longer, so that `activity` has both limits.

mod activity;

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use self::activity::Activity;
use crate::{
    server::{Door, HalfClose, LINGER, Leaving, Tls, announced, drain},
    telemetry::chain,
};

/// Time for the TLS handshake. A client needs a few round trips for it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of the head of a request, and of what is buffered of an HTTP/1.1 connection. A
/// longer head gets status 431.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Maximum number of header fields of an HTTP/1.1 request. Browsers behind proxies send about 40.
const FIELDS_MAX: usize = 100;
/// Maximum number of requests in progress on one HTTP/2 connection, which the server announces.
const STREAMS_MAX: u32 = 256;
/// Maximum number of streams that the server resets for faults of the peer, and of those that the peer opens
/// and resets before the server accepts them. With more, the connection is closed (CVE-2023-44487).
const RESETS_MAX: usize = 128;
/// Maximum number of bytes of one response that are buffered until the peer opens its window.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Number of bytes that wait in the system to be sent from which on it takes no more of them. Bytes on their
/// way are not counted, so this slows no network down. With megabytes in the system, a slow peer would leave
/// the server without a sign for longer than the time below.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 16 * 1024;
/// Time for a peer to take bytes that the system has sent or wants to send. Afterwards the system closes the
/// connection. The server itself sees only the bytes that the system has not taken yet.
#[cfg(target_os = "linux")]
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the first request of a new connection once the server leaves, and then for the peer to let the
/// connection end.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of the port.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Encryption; with `None`, connections are plain text.
    pub tls: Option<Tls>,
    /// Maximum number of open connections; further ones wait in the system's accept queue.
    pub connections: usize,
    /// Time for the requests in flight to finish once the server stops.
    pub drain_timeout: Duration,
}

/// Serves `routes` on connections of `listener` until the server leaves and the requests in flight have
/// ended.
pub async fn serve(listener: TcpListener, routes: Router, settings: PortSettings, leaving: Leaving) {
    let PortSettings { tls, connections, drain_timeout } = settings;
    let mut stop = leaving.subscribe();
    let mut door = Door::new(listener, connections, move |stream| {
        converse(stream, routes.clone(), tls.clone(), leaving.subscribe())
    });
    door.open_until(announced(&mut stop)).await;
    info!("the port of the avatars stops");
    drain(door.close(), drain_timeout).await;
}

/// Serves one connection until the peer closes it, or one of the limits does.
async fn converse(stream: TcpStream, routes: Router, tls: Option<Tls>, leaving: watch::Receiver<bool>) {
    bound(&stream);
    let Some(tls) = tls else {
        return exchange(HalfClose::new(stream), routes, leaving).await;
    };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok((stream, _))) => exchange(HalfClose::new(stream), routes, leaving).await,
        Ok(Err(error)) => debug!(error = chain(&error), "closed a connection that did not begin"),
        Err(_) => debug!("closed a connection whose peer took too long to begin"),
    }
}

/// Sets the options of a new connection. A socket that refuses one is closing already.
fn bound(stream: &TcpStream) {
    // Nagle's algorithm would delay small responses.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
        let _ = socket.set_tcp_user_timeout(Some(READ_TIMEOUT));
    }
}

/// Answers the requests of a connection.
async fn exchange<IO>(stream: IO, routes: Router, mut leaving: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Activity::default();
    let service = activity.watch(routes);
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(activity.noting(stream)), service));
    let conversation = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = activity.idle() => debug!("a connection is idle"),
            () = announced(&mut leaving) => {}
        }
        // A connection that has just been opened may have its first request on the way.
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = activity.first_request(LEAVING_TIMEOUT) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = nothing_in_flight(&activity) => {
                debug!("closed a connection whose peer does not let it end");
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = conversation => if let Err(error) = ended {
            // The sources of the error are not logged, because they repeat what the peer wrote.
            debug!(error = error.to_string(), "connection ended in an error");
        },
        () = activity.stalled() => debug!("closed a connection whose peer stopped in the middle of a request"),
        () = activity.unread() => debug!("closed a connection whose peer does not read its answers"),
    }
}

/// Resolves some time after the end of the connection was announced to the peer, once no response is in
/// flight.
async fn nothing_in_flight(activity: &Activity) {
    sleep(LEAVING_TIMEOUT).await;
    while !activity.is_idle() {
        sleep(LINGER).await;
    }
}

/// The protocols and their limits.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX as usize)
        .max_headers(FIELDS_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    builder
}

#[cfg(test)]
mod tests;
