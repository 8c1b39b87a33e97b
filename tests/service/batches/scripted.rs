//! [`Scripted`]: the server with all its layers, in the process of the test. In place of the contact service
//! it has one that follows a script in each call.

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hypersender_grpc::{
    grpc::{Health, OwnPace, RequestMessage, StreamSettings, Streams},
    server::{self, Leaving, LongCalls, Settings, Stop},
    telemetry::Metrics,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::{JoinHandle, yield_now},
    time::sleep,
};
use tonic::body::Body;
use tower::service_fn;

use crate::support::{PATIENCE, patiently};

/// The number of bytes of the answer for `large`. It is larger than every window at the start.
pub const LARGE: usize = 300_000;

/// The header with the script of a call.
pub const SCRIPT: &str = "script";

/// A running server. It answers a call with the message of the call
///
/// - for the script `now` in the first poll, for `soon` in a later one, for `late` after some milliseconds;
/// - for `wait` once it is released;
/// - for `stream` with a stream without an end, which watches its own reader and is reset once it is
///   released;
/// - and panics for each script that begins with `panic`.
pub struct Scripted {
    pub address: SocketAddr,
    script: Arc<Script>,
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Script {
    released: watch::Sender<bool>,
    /// Calls with the script `wait` that have begun and have not been dropped.
    waiting: watch::Sender<usize>,
}

impl Scripted {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same, with this limit on the age of connections.
    pub async fn start_with(connection_age: Option<Duration>) -> Self {
        let script = Arc::new(Script::default());
        let scripted = script.clone();
        let contacts = service_fn(move |request: Request<RequestMessage>| {
            // The panic comes before there is a future.
            assert_ne!(script_of(&request), "panic/call", "on purpose");
            answer(scripted.clone(), request)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Streams::new(StreamSettings::default(), Arc::default());
        let long_calls = LongCalls { health: Health::serving().await, streams, leaving: Leaving::new() };
        let metrics = Metrics::new(&[]).calls.clone();
        let (stop, stopped) = oneshot::channel();
        // A test that fails drops the sender.
        let stopped = async { stopped.await.unwrap_or(Stop::Prompt) };
        let settings = Settings {
            deadline: PATIENCE,
            connection_age,
            drain_wait: Duration::ZERO,
            drain_timeout: PATIENCE,
            ..Settings::default()
        };
        let served = server::serve(listener, contacts, settings, long_calls, metrics, None, stopped);
        Self { address, script, stop, task: tokio::spawn(served) }
    }

    /// Waits until exactly this number of calls wait.
    pub async fn waiting(&self, calls: usize) {
        let mut waiting = self.script.waiting.subscribe();
        let exactly = waiting.wait_for(|waiting| *waiting == calls);
        patiently("calls to wait, or to be dropped", exactly).await.unwrap();
    }

    /// Releases the waiting calls.
    pub fn release(&self) {
        self.script.released.send_replace(true);
    }

    /// Begins to stop.
    pub fn stop(self) -> Stopping {
        self.stop.send(Stop::Prompt).unwrap();
        Stopping { script: self.script, task: self.task }
    }
}

/// A server that drains: it finishes the calls in flight.
pub struct Stopping {
    script: Arc<Script>,
    task: JoinHandle<()>,
}

impl Stopping {
    /// Releases the waiting calls.
    pub fn release(&self) {
        self.script.released.send_replace(true);
    }

    pub async fn ended(self) {
        patiently("the end of the server", self.task).await.unwrap();
    }
}

/// A waiting call. Dropping it takes it out of the count.
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

fn script_of(request: &Request<RequestMessage>) -> &str {
    request.headers()[SCRIPT].to_str().unwrap()
}

async fn answer(script: Arc<Script>, request: Request<RequestMessage>) -> Result<Response<Body>, Infallible> {
    let scripted = script_of(&request).to_owned();
    let message = request.into_body().bytes;
    Ok(match scripted.as_str() {
        "now" => reply(message),
        "soon" => {
            yield_now().await;
            reply(message)
        }
        "late" => {
            sleep(Duration::from_millis(u64::from(message[message.len() - 1] % 8))).await;
            reply(message)
        }
        "wait" => {
            let waiting = Waiting::begin(script);
            waiting.0.released.subscribe().wait_for(|released| *released).await.unwrap();
            reply(message)
        }
        "large" => reply(vec![b'1'; LARGE].into()),
        "panic/first" => panic!("on purpose"),
        "panic/later" => {
            yield_now().await;
            panic!("on purpose")
        }
        "stream" => {
            let (pace, mut released) = (OwnPace::default(), script.released.subscribe());
            let reset = pace.reset.clone();
            tokio::spawn(async move {
                let _ = released.wait_for(|released| *released).await;
                reset.notify_one();
            });
            let waiting = Waiting::begin(script);
            let frames = stream::repeat(message).map(move |message| {
                let _held = &waiting;
                Ok::<_, Infallible>(Frame::data(message))
            });
            marked(pace, Response::new(Body::new(StreamBody::new(frames))))
        }
        "panic/stream" => {
            let first = stream::iter([Ok(Frame::data(message))]).chain(panic_at_once());
            marked(OwnPace::default(), Response::new(Body::new(StreamBody::new(first))))
        }
        "panic/body" => Response::new(Body::new(StreamBody::new(panic_at_once()))),
        "panic/body-later" => {
            let first = stream::iter([Ok(Frame::data(message))]);
            let later = stream::once(yield_now()).flat_map(|()| panic_at_once());
            Response::new(Body::new(StreamBody::new(first.chain(later))))
        }
        other => panic!("{other} is not a script"),
    })
}

fn panic_at_once() -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::once(poll_fn(|_| -> Poll<_> { panic!("on purpose") }))
}

/// Marks the response as one whose stream watches its own reader.
fn marked(pace: OwnPace, mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(pace);
    response
}

fn reply(message: Bytes) -> Response<Body> {
    let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let frames = [Frame::data(message), Frame::trailers(HeaderMap::from_iter([status]))];
    Response::new(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))))
}
