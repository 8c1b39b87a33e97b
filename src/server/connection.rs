//! One connection: HTTP/2 from its first byte to its GOAWAY.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::watch};
use tonic::body::Body;
use tower::Service;
use tracing::debug;

/// Calls in progress on one connection; announced, so that clients queue what is beyond it or open another connection.
const STREAMS_MAX: u32 = 256;

/// Serves one connection until the peer closes it, or until `leaving` is true and its calls have ended.
pub async fn converse<S>(stream: TcpStream, service: S, mut leaving: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Small answers must not wait for more of them. A socket that refuses is closing anyway.
    let _ = stream.set_nodelay(true);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut leaving) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended in an error");
    }
}

/// Resolves once `leaving` is true, or its owner is gone.
async fn told(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leaving| *leaving).await;
}
