//! [`ScriptedStreams`]: a contact service whose streams end as a script says, for the clients of streams.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    future::{Ready, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyStream, StreamBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hypersender_grpc::grpc::contact::{
    CacheInfo, ProfilePicture, ProfilePictureResult, StreamProfilePicturesRequest,
    StreamProfilePicturesResponse, StreamProgress, profile_picture_result::Outcome,
    stream_profile_pictures_response::Event,
};
use tokio::{net::TcpStream, sync::Notify};
use tonic::{
    Request, Response, Status,
    server::{Grpc, ServerStreamingService},
};
use tonic_prost::ProstCodec;

use super::Listener;

/// How a stream ends.
#[derive(Clone, Debug)]
pub enum End {
    /// With OK.
    Ok,
    /// With this status.
    Status(Status),
    /// Its connection is closed.
    Cut,
    /// It is reset with CANCEL, as a proxy does at its own time limit.
    Reset,
}

/// One stream: the number of contacts that get a result, and how it ends.
pub type Script = (usize, End);

/// The service, on a loopback port. Once the scripts are used up, every contact gets a result.
pub struct ScriptedStreams {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    requests: Mutex<Vec<StreamProfilePicturesRequest>>,
}

impl ScriptedStreams {
    pub async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let scripts = Mutex::new(scripts.into_iter().collect());
        let shared = Arc::new(Shared { scripts, requests: Mutex::default() });
        let served = shared.clone();
        let listener = Listener::start(move |socket| converse(socket, served.clone())).await;
        Self { listener, shared }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.listener.port())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<StreamProfilePicturesRequest> {
        self.shared.requests.lock().unwrap().clone()
    }
}

async fn converse(socket: TcpStream, shared: Arc<Shared>) {
    let cut = Arc::new(Notify::new());
    let all = Method { shared, cut: cut.clone(), reset: Arc::default() };
    let service = service_fn(move |request: http::Request<Incoming>| {
        let reset = Arc::<AtomicBool>::default();
        let method = Method { reset: reset.clone(), ..all.clone() };
        async move {
            let codec = ProstCodec::<StreamProfilePicturesResponse, StreamProfilePicturesRequest>::default();
            let response = Grpc::new(codec).server_streaming(method, request).await;
            Ok::<_, Infallible>(response.map(|body| resettable(body, reset)))
        }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        _ = connection => {}
        () = cut.notified() => {}
    }
}

/// The body, with a reset of the stream in place of its trailers where `reset` says so.
fn resettable(
    body: tonic::body::Body,
    reset: Arc<AtomicBool>,
) -> impl http_body::Body<Data = bytes::Bytes, Error = Box<dyn Error + Send + Sync>> {
    StreamBody::new(BodyStream::new(body).map(move |frame| match frame {
        Ok(frame) if frame.is_trailers() && reset.load(SeqCst) => {
            Err(h2::Error::from(h2::Reason::CANCEL).into())
        }
        frame => frame.map_err(Into::into),
    }))
}

#[derive(Clone)]
struct Method {
    shared: Arc<Shared>,
    cut: Arc<Notify>,
    reset: Arc<AtomicBool>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<StreamProfilePicturesResponse, Status>> + Send>>;

impl ServerStreamingService<StreamProfilePicturesRequest> for Method {
    type Response = StreamProfilePicturesResponse;
    type ResponseStream = Messages;
    type Future = Ready<Result<Response<Messages>, Status>>;

    fn call(&mut self, request: Request<StreamProfilePicturesRequest>) -> Self::Future {
        let request = request.into_inner();
        let script = self.shared.scripts.lock().unwrap().pop_front();
        let (count, end) = script.unwrap_or((request.chat_ids.len(), End::Ok));
        // The last contacts get their results first, because a stream has no order. The first result is sent
        // twice, which no service does.
        let ids = request.chat_ids.iter().enumerate().rev().take(count);
        let mut results: Vec<_> = ids.map(|(index, chat_id)| Event::Result(result(index, chat_id))).collect();
        results.extend(results.first().cloned());
        results.push(Event::Progress(StreamProgress::default()));
        self.shared.requests.lock().unwrap().push(request);
        let messages =
            results.into_iter().map(|event| Ok(StreamProfilePicturesResponse { event: Some(event) }));
        let (cut, reset) = (self.cut.clone(), self.reset.clone());
        let last = stream::once(async move {
            match end {
                End::Ok => None,
                End::Status(status) => Some(Err(status)),
                End::Reset => {
                    // Time for the results to be sent, because a reset discards what was not.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    reset.store(true, SeqCst);
                    None
                }
                End::Cut => {
                    cut.notify_one();
                    std::future::pending().await
                }
            }
        });
        let last = last.filter_map(|end| async { end });
        ready(Ok(Response::new(Box::pin(stream::iter(messages.collect::<Vec<_>>()).chain(last)))))
    }
}

fn result(index: usize, chat_id: &str) -> ProfilePictureResult {
    ProfilePictureResult {
        index: i32::try_from(index).unwrap(),
        requested_chat_id: chat_id.to_owned(),
        outcome: Some(Outcome::ProfilePicture(ProfilePicture { state: 2, ..ProfilePicture::default() })),
        cache_info: Some(CacheInfo::default()),
    }
}
