//! [`Front`]: the stack under test, with a clock that a test can stop. [`Ask`]: a look-up.

mod demand;
mod relay;
mod replicas;
#[allow(clippy::disallowed_types, reason = "a server starts in real time, whatever tokio's clock shows")]
#[path = "../../src/stack/store/testing.rs"]
mod server;
mod stream;
mod upstream;

use std::{
    hash::RandomState,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use hypersender_grpc::{
    domain::{
        Again, Answer, BatchTurns, CacheControl, CacheStatus, ChatId, Credential, Deadline, Finding,
        Instance, Lookup, LookupError, PictureLink, Purpose, QueuePlace,
    },
    stack::{
        BreakerSettings, Clock, ConcurrencySettings, Contacts, PictureCache, RateSettings, RetrySettings,
        ServeFuture, Settings, Store, Trust, stack,
    },
    telemetry::{Metrics, MetricsForm},
};
use tokio::{task::JoinHandle, time::Instant};
use tower::{Service, util::BoxCloneSyncService};

pub use self::{
    demand::{Demand, Stalls, burst},
    relay::Relay,
    replicas::{Replicas, server_at, store_at, until},
    stream::{Many, Streaming, contacts},
    upstream::{Attempt, Reply, Upstream},
};

pub type Outcome = Result<Answer, LookupError>;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The wall clock at the beginning of a test.
pub fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_000_000)
}

/// A link that expires this long after the beginning of the test.
pub fn link(end: Duration) -> Finding {
    let oe = (wall() + end).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    link_to(&format!("https://pps.whatsapp.net/p.jpg?oe={oe:x}"))
}

/// The answer with this link, received at the beginning of the test.
pub fn link_to(url: &str) -> Finding {
    Finding::Picture(PictureLink::parse(url, wall()).unwrap())
}

pub fn unavailable() -> LookupError {
    LookupError::Unavailable { retry_after: None, again: Again::Yes }
}

/// No rate limit, no breaker, and enough permits and flights.
pub fn unlimited() -> Settings {
    Settings {
        breaker: BreakerSettings { failures: 0 },
        rate: RateSettings { per_second: 0.0, burst: 0 },
        concurrency: ConcurrencySettings { attempts: 100_000 },
        flights: 100_000,
        ..Settings::default()
    }
}

/// Like [`unlimited`], with one attempt for each fetch.
pub fn plain() -> Settings {
    Settings { retry: RetrySettings { attempts: 1, budget: 0.0 }, ..unlimited() }
}

/// A look-up with a deadline of 10 s, unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Ask {
    instance: String,
    chat: usize,
    token: &'static str,
    control: CacheControl,
    within: Duration,
    purpose: Purpose,
    batch: Option<BatchTurns>,
    place: Option<QueuePlace>,
    joins_only: bool,
}

pub fn contact(chat: usize) -> Ask {
    Ask {
        instance: "shop".into(),
        chat,
        token: "token",
        control: CacheControl::default(),
        within: 10 * SECOND,
        purpose: Purpose::Caller,
        batch: None,
        place: None,
        joins_only: false,
    }
}

impl Ask {
    pub fn of(self, instance: impl Into<String>) -> Self {
        Self { instance: instance.into(), ..self }
    }

    pub fn with_token(self, token: &'static str) -> Self {
        Self { token, ..self }
    }

    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    pub fn in_stream(self) -> Self {
        Self { purpose: Purpose::Stream, ..self }
    }

    pub fn at_place(self, place: &QueuePlace) -> Self {
        Self { place: Some(place.clone()), ..self.in_stream() }
    }

    pub fn in_batch(self, batch: &BatchTurns) -> Self {
        Self { purpose: Purpose::Batch, batch: Some(batch.clone()), ..self }
    }

    /// Joins a flight in progress, but starts none.
    pub fn joining(self) -> Self {
        Self { joins_only: true, ..self }
    }

    /// Accepts no answer from the cache, except within the refresh floor.
    pub fn anew(mut self) -> Self {
        self.control.max_age = Some(Duration::ZERO);
        self
    }

    pub fn max_age(mut self, max: Duration) -> Self {
        self.control.max_age = Some(max);
        self
    }

    pub fn stale_if_error(mut self, most: Duration) -> Self {
        self.control.stale_if_error = Some(most);
        self
    }

    pub fn only_if_cached(mut self) -> Self {
        self.control.only_if_cached = true;
        self
    }
}

/// The stack above an [`Upstream`].
#[derive(Clone)]
pub struct Front {
    pub upstream: Upstream,
    pub cache: Arc<PictureCache>,
    service: BoxCloneSyncService<Lookup, Answer, LookupError>,
    streams: Arc<dyn Fn(Contacts) -> Box<dyn Streaming> + Send + Sync>,
    batches: Arc<dyn Fn(Vec<Lookup>) -> BoxFuture<'static, Vec<Outcome>> + Send + Sync>,
    avatars: Arc<dyn Fn(Lookup) -> ServeFuture + Send + Sync>,
    hasher: RandomState,
    metrics: Arc<Metrics>,
    start: Instant,
}

impl Front {
    pub fn new(settings: Settings, script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static) -> Self {
        let clock = Clock::following_tokio(wall());
        Self::beside(settings, None, clock, Upstream::new(clock, script))
    }

    /// One of several stacks above the same upstream.
    pub fn beside(settings: Settings, store: Option<&Store>, clock: Clock, upstream: Upstream) -> Self {
        let metrics = Arc::new(Metrics::new(&[]));
        let (cache, service) = stack(settings, clock, &metrics.lookups, store, upstream.clone());
        let streaming = service.clone();
        let streams = Arc::new(move |contacts| Box::new(streaming.stream(contacts)) as Box<dyn Streaming>);
        let batching = service.clone();
        let batches = Arc::new(move |lookups: Vec<Lookup>| {
            batching.batch(lookups.into_iter()).finish().boxed() as BoxFuture<_>
        });
        let imaging = service.clone();
        let avatars = Arc::new(move |lookup| imaging.avatar(lookup));
        let service = BoxCloneSyncService::new(service);
        Self {
            upstream,
            cache,
            service,
            streams,
            batches,
            avatars,
            hasher: RandomState::new(),
            metrics,
            start: Instant::now(),
        }
    }

    /// Calls the stack at once. The future may be polled later, in another runtime, or never.
    pub fn ask(&self, ask: Ask) -> impl Future<Output = Outcome> + Send + use<> {
        self.service.clone().call(self.lookup(ask))
    }

    /// Asks for all of them as a batch, in a new task.
    pub fn batch(&self, asks: impl IntoIterator<Item = Ask>) -> JoinHandle<Vec<Outcome>> {
        tokio::spawn((self.batches)(asks.into_iter().map(|ask| self.lookup(ask)).collect()))
    }

    /// Asks for an image. Nothing waits before the future is polled.
    pub fn avatar(&self, ask: Ask) -> ServeFuture {
        (self.avatars)(self.lookup(ask))
    }

    /// Asks for an image in a new task.
    pub fn spawn_avatar(&self, ask: Ask) -> JoinHandle<Outcome> {
        tokio::spawn(self.avatar(ask))
    }

    /// Trust in the token from now on.
    pub fn trust(&self, ask: Ask) -> Trust {
        self.cache.trust(&self.lookup(ask).key.scope)
    }

    fn lookup(&self, ask: Ask) -> Lookup {
        let Ask { instance, chat, token, control, within, purpose, batch, place, joins_only } = ask;
        let lookup = Lookup::new(
            Instance::parse(&instance).unwrap(),
            Credential::new(token.into(), &self.hasher),
            ChatId::parse(&(15_550_000_000 + chat).to_string()).unwrap(),
            control,
            Deadline::at(Instant::now() + within),
        );
        Lookup { own_purpose: purpose, batch, place, joins_only, ..lookup }
    }

    /// Asks in a new task.
    pub fn spawn(&self, ask: Ask) -> JoinHandle<Outcome> {
        tokio::spawn(self.ask(ask))
    }

    /// Asks all of them at the same time.
    pub async fn ask_all(&self, asks: impl IntoIterator<Item = Ask>) -> Vec<Outcome> {
        join_all(asks.into_iter().map(|ask| self.ask(ask))).await
    }

    /// The time since the beginning.
    pub fn time(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn calls(&self) -> usize {
        self.upstream.attempts().len()
    }

    /// The value of one series of the metrics.
    pub fn metric(&self, series: &str) -> usize {
        let text = self.metrics.text(MetricsForm::accepted(""));
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.expect("there is such a series").parse().unwrap()
    }

    /// The number of instances whose state the breaker keeps, in any phase.
    pub fn circuits(&self) -> usize {
        let text = self.metrics.text(MetricsForm::accepted(""));
        let states = text.lines().filter(|line| line.starts_with("hypersender_breaker_state{"));
        states.map(|line| line.split(' ').next_back().unwrap().parse::<usize>().unwrap()).sum()
    }
}

/// Lets all ready tasks run without moving the clock.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// The cache status of an answer, or the error.
pub fn told(outcome: &Outcome) -> Result<CacheStatus, LookupError> {
    outcome.as_ref().map(|answer| answer.cache.status).map_err(Clone::clone)
}

/// The number of outcomes for which `is` holds.
pub fn count(outcomes: &[Outcome], is: impl Fn(&Outcome) -> bool) -> usize {
    outcomes.iter().filter(|outcome| is(outcome)).count()
}
