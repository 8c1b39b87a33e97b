//! A server that is hyper and nothing else. A fault that h2spec finds here is hyper's, and any other fault of
//! the service is ours.
//!
//! The argument is the body of every answer. h2spec expects a body, and a gRPC service answers an unknown
//! method with an empty one.

use std::{convert::Infallible, env, io};

use http::Response;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let body = env::args().nth(1).unwrap_or_default();
    loop {
        let (stream, _) = listener.accept().await?;
        let body = body.clone();
        let service = service_fn(move |_| {
            let answer = Response::new(body.clone());
            async { Ok::<_, Infallible>(answer) }
        });
        // The other side judges the end of a connection.
        tokio::spawn(
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
        );
    }
}
