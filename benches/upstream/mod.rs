//! A stack without limits except those of the cache. Its upstream answers at once and counts its calls.

use std::{
    hash::RandomState,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hypersender_grpc::{
    domain::{
        Answer, CacheControl, CacheInfo, ChatId, Credential, Deadline, Finding, Instance, Lookup,
        LookupError, Now, PictureLink,
    },
    stack::{
        BreakerSettings, CacheSettings, Clock, ConcurrencySettings, PictureCache, RateSettings,
        RetrySettings, Settings, stack,
    },
};
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};

/// A chat of 13 digits.
const CHAT_BYTES: usize = 13;
/// A UUID.
const INSTANCE: &str = "0198c5a4-7d52-7c3e-9a41-5d0f3b6e2a17";
/// The link. A look-up and its answer have 196 bytes: a UUID, a chat and this link.
pub const LINK_BYTES: usize = 196 - INSTANCE.len() - CHAT_BYTES;

/// The callers of one stack.
pub struct Callers<S> {
    stack: S,
    cache: Arc<PictureCache>,
    asked: Arc<AtomicUsize>,
    instance: Instance,
    credential: Credential,
}

/// A stack with this cache and at most `most` concurrent callers.
pub fn callers(
    settings: CacheSettings,
    most: usize,
) -> Callers<impl Service<Lookup, Response = Answer, Error = LookupError, Future: Send> + Clone + Send + Sync>
{
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let expiry = tomorrow.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let upstream = service_fn(move |lookup: Lookup| {
        count.fetch_add(1, Relaxed);
        std::future::ready(Ok::<_, LookupError>(answer(&lookup.key.chat, expiry)))
    });
    let (cache, stack) = stack(
        Settings {
            cache: settings,
            flights: most,
            retry: RetrySettings { attempts: 1, budget: 0.0 },
            breaker: BreakerSettings { failures: 0 },
            rate: RateSettings { per_second: 0.0, burst: 0 },
            concurrency: ConcurrencySettings { attempts: 2 * most },
        },
        Clock::system(),
        &Arc::default(),
        None,
        upstream,
    );
    Callers {
        stack,
        cache,
        asked,
        instance: Instance::parse(INSTANCE).expect("it is a UUID"),
        credential: Credential::new("token".into(), &RandomState::new()),
    }
}

impl<S: Service<Lookup, Response = Answer, Error = LookupError> + Clone> Callers<S> {
    /// Looks up the chat of this number.
    pub async fn call(&self, number: usize) {
        let chat = ChatId::parse(&format!("{number:0CHAT_BYTES$}")).expect("it is 13 digits");
        let deadline = Deadline::at(Instant::now() + Duration::from_secs(5));
        let (instance, credential) = (self.instance.clone(), self.credential.clone());
        let lookup = Lookup::new(instance, credential, chat, CacheControl::default(), deadline);
        self.stack.clone().oneshot(lookup).await.expect("this upstream never fails");
    }

    /// The cache below them.
    pub fn cache(&self) -> &PictureCache {
        &self.cache
    }

    /// The number of calls of upstream.
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

fn answer(chat: &ChatId, expiry: u64) -> Answer {
    let place =
        format!("https://pps.whatsapp.net/v/t61.24694-24/{}_1_1_n.jpg?oe={expiry:X}&oh=", chat.as_str());
    let link = format!("{place:a<LINK_BYTES$}");
    let fetched = Now { instant: Instant::now(), wall: SystemTime::now() };
    let link = PictureLink::parse(&link, fetched.wall).expect("it is a link");
    assert_eq!(link.url().len(), LINK_BYTES);
    Answer { finding: Finding::Picture(link), fetched, took: Duration::ZERO, cache: CacheInfo::FETCHED }
}
