//! The parts of a server for the tests of batches and streams: they need no connection.

use std::{
    hash::RandomState,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use http::Request;
use prost::Message;
use tokio::time::Instant;
use tower::service_fn;

use super::{
    ContactMethod, Credentials, RequestMessage, StreamSettings, Streams, backend::Backend, unary::append,
};
use crate::{
    domain::{
        Allowed, Answer, CacheInfo, CallEnd, CallTime, Caller, Credential, Deadline, Finding, Instance,
        Lookup, LookupError, Now, PictureLink,
    },
    stack::{Clock, LookupService, RateSettings, Settings, stack},
};

/// The default instance.
pub const INSTANCE: &str = "shop";
/// The wait that a refusal asks for.
const PAUSE: Duration = Duration::from_secs(60);

/// Hypersender as a double: how many requests it got, and how it answers them.
#[derive(Clone, Default)]
pub struct Upstream {
    /// The number of requests.
    pub requests: Arc<AtomicUsize>,
    /// The answer to the next request; later ones get pictures.
    pub refuses_once: Arc<AtomicBool>,
}

impl Upstream {
    fn answer(&self, now: Now) -> Result<Answer, LookupError> {
        self.requests.fetch_add(1, SeqCst);
        if self.refuses_once.swap(false, SeqCst) {
            return Err(LookupError::UpstreamRateLimited { retry_after: Some(PAUSE) });
        }
        let link = PictureLink::parse("https://pps.whatsapp.net/v/t/1_2_3_n.jpg", now.wall);
        Ok(Answer {
            finding: Finding::Picture(link.unwrap()),
            fetched: now,
            took: Duration::ZERO,
            cache: CacheInfo::FETCHED,
        })
    }
}

/// The parts of a server whose look-ups `upstream` answers.
pub fn backend(rate: RateSettings, upstream: &Upstream) -> Backend<impl LookupService + use<>> {
    let clock = Clock::following_tokio(SystemTime::now());
    let answering = upstream.clone();
    let service = service_fn(move |_: Lookup| {
        let upstream = answering.clone();
        async move { upstream.answer(clock.now()) }
    });
    let settings = Settings { rate, ..Settings::default() };
    let (_, stack) = stack(settings, clock, &Arc::default(), None, service);
    let streams = Streams::new(StreamSettings::default(), Arc::default());
    let credentials = Credentials {
        any: Some(Credential::new("token".into(), &RandomState::new())),
        default_instance: Some(Instance::parse(INSTANCE).unwrap()),
        ..Credentials::default()
    };
    Backend::new(stack, credentials.into(), streams, Arc::default(), None)
}

/// A call with `message`, as it comes from the layers of the server.
pub fn request(method: ContactMethod, message: &impl Message) -> Request<RequestMessage> {
    let mut bytes = Vec::new();
    append(message, &mut bytes);
    let mut request = Request::new(RequestMessage { method, bytes: bytes.into() });
    let deadline = Deadline::at(Instant::now() + method.time_max());
    request.extensions_mut().insert(CallTime { deadline, end: CallEnd::UNSTATED });
    request.extensions_mut().insert(Caller::new("app", Allowed::All));
    request
}
