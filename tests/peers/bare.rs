//! A server of hyper's own making, with nothing of ours: what h2spec finds in it is hyper's, and the rest is ours.
//!
//! Its argument is the body of every answer. h2spec expects one; an empty one is what it gets from a gRPC service, for a
//! method that does not exist.

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
        // How a conversation ends is for the other side to judge.
        tokio::spawn(
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
        );
    }
}
