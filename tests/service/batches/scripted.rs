//! [`Scripted`]: the server of this process, with a service in it that does what the path of a call says.

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hypersender_grpc::{
    grpc::Health,
    server::{self, DeadlineLayer, Edge, Leaving, MessageLayer, ObserveLayer, Settings, Stop},
    telemetry::Metrics,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::{JoinHandle, yield_now},
    time::sleep,
};
use tonic::body::Body;
use tower::{Layer, ServiceBuilder, service_fn};

use crate::support::{PATIENCE, patiently};

/// Bytes of the answer at `/large`, which no window has at the start.
pub const LARGE: usize = 300_000;

/// A running server. It answers with the message of the call
///
/// - at `/now` in the first poll, at `/soon` in a later one, at `/late` after some milliseconds;
/// - at `/wait` once it is told to;
/// - and panics below `/panic`.
pub struct Scripted {
    pub address: SocketAddr,
    script: Arc<Script>,
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Script {
    released: watch::Sender<bool>,
    /// Calls at `/wait` that have begun and have not been dropped.
    waiting: watch::Sender<usize>,
}

impl Scripted {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With connections that get no older.
    pub async fn start_with(connection_age: Option<Duration>) -> Self {
        let script = Arc::new(Script::default());
        let scripted = script.clone();
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(PATIENCE))
            .layer(MessageLayer::default())
            .service(service_fn(move |request: Request<Bytes>| {
                // Before there is a future.
                assert_ne!(request.uri().path(), "/panic/call", "on purpose");
                answer(scripted.clone(), request)
            }));
        let service = ObserveLayer::new(Metrics::new(&[]).calls.clone(), None).layer(Edge::new(service));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, _) = Health::serving().await;
        let (stop, stopped) = oneshot::channel();
        // A test that fails drops the sender.
        let stopped = async { stopped.await.unwrap_or(Stop::Prompt) };
        let settings =
            Settings { connections: 64, connection_age, drain_wait: Duration::ZERO, drain_timeout: PATIENCE };
        let served = server::serve(listener, None, service, health, Leaving::new(), stopped, settings);
        Self { address, script, stop, task: tokio::spawn(served) }
    }

    /// Returns once exactly so many calls wait.
    pub async fn waiting(&self, calls: usize) {
        let mut waiting = self.script.waiting.subscribe();
        let exactly = waiting.wait_for(|waiting| *waiting == calls);
        patiently("calls to wait, or to be dropped", exactly).await.unwrap();
    }

    /// Lets the calls go that wait.
    pub fn release(&self) {
        self.script.released.send_replace(true);
    }

    /// Begins to stop.
    pub fn stop(self) -> Stopping {
        self.stop.send(Stop::Prompt).unwrap();
        Stopping { script: self.script, task: self.task }
    }
}

/// A server that finishes what is in flight.
pub struct Stopping {
    script: Arc<Script>,
    task: JoinHandle<()>,
}

impl Stopping {
    /// Lets the calls go that wait.
    pub fn release(&self) {
        self.script.released.send_replace(true);
    }

    pub async fn ended(self) {
        patiently("the end of the server", self.task).await.unwrap();
    }
}

/// A call that waits, for as long as it is there.
struct Waiting(Arc<Script>);

impl Waiting {
    fn begin(script: Arc<Script>) -> Self {
        script.waiting.send_modify(|waiting| *waiting += 1);
        Self(script)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

async fn answer(script: Arc<Script>, request: Request<Bytes>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let message = request.into_body();
    Ok(match path.as_str() {
        "/now" => reply(message),
        "/soon" => {
            yield_now().await;
            reply(message)
        }
        "/late" => {
            sleep(Duration::from_millis(u64::from(message[message.len() - 1] % 8))).await;
            reply(message)
        }
        "/wait" => {
            let waiting = Waiting::begin(script);
            waiting.0.released.subscribe().wait_for(|released| *released).await.unwrap();
            reply(message)
        }
        "/large" => reply(vec![b'1'; LARGE].into()),
        "/panic/first" => panic!("on purpose"),
        "/panic/later" => {
            yield_now().await;
            panic!("on purpose")
        }
        "/panic/body" => Response::new(Body::new(StreamBody::new(panic_at_once()))),
        "/panic/body-later" => {
            let first = stream::iter([Ok(Frame::data(message))]);
            let later = stream::once(yield_now()).flat_map(|()| panic_at_once());
            Response::new(Body::new(StreamBody::new(first.chain(later))))
        }
        path => panic!("nothing is scripted for {path}"),
    })
}

fn panic_at_once() -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::once(poll_fn(|_| -> Poll<_> { panic!("on purpose") }))
}

fn reply(message: Bytes) -> Response<Body> {
    let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let frames = [Frame::data(message), Frame::trailers(HeaderMap::from_iter([status]))];
    Response::new(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))))
}
