//! [`Replicas`]: the stacks that share a store, above an upstream that answers every look-up with a link.

use std::{
    hash::RandomState,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream};
use hypersender_grpc::{
    domain::{
        Answer, CacheControl, CacheInfo, ChatId, Credential, Deadline, Finding, Instance, Lookup,
        LookupError, Now, PictureLink,
    },
    stack::{
        BreakerSettings, Clock, ConcurrencySettings, RateSettings, Settings, Store, StorePlace, StoreServer,
        StoreSettings, stack,
    },
    telemetry::{Metrics, MetricsForm},
};
use tokio::time::{Instant, sleep};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

/// The number of replicas.
pub const REPLICAS: usize = 100;
/// The number of instances. Each has a token of its own.
pub const INSTANCES: usize = 1_000;

/// The number of the first contact of an instance.
const FIRST: usize = 1_000_000_000;
/// The most instances whose first contact is asked for at a time.
const FIRST_AT_A_TIME: usize = 200;
/// Longer than in production, because all replicas share a core here.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a look-up.
const DEADLINE: Duration = Duration::from_secs(10);
/// The bytes of the links. They vary evenly.
const LINK_BYTES: std::ops::RangeInclusive<usize> = 250..=400;
/// How long links are valid.
const LINK_LIFE: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// How long a request to Hypersender takes.
#[derive(Clone, Copy, Debug)]
pub enum Fetch {
    /// 300 ms, but each twentieth 2.5 s, so that its lease is renewed twice.
    Usual,
    /// No time.
    AtOnce,
}

impl Fetch {
    fn time(self, number: usize) -> Duration {
        match self {
            Self::Usual if number.is_multiple_of(20) => Duration::from_millis(2_500),
            Self::Usual => Duration::from_millis(300),
            Self::AtOnce => Duration::ZERO,
        }
    }
}

type Replica = BoxCloneSyncService<Lookup, Answer, LookupError>;

/// The replicas of a store.
pub struct Replicas {
    stacks: Vec<Replica>,
    stores: Vec<Store>,
    instances: Vec<(Instance, Credential)>,
    metrics: Metrics,
}

impl Replicas {
    /// 100 replicas with a server that has an answer of each instance. Their bursts are whole.
    pub async fn start(port: u16, rate: RateSettings, fetch: Fetch) -> Self {
        let replicas = Self::with(&place(port), REPLICAS, rate, fetch).await;
        let first = (0..INSTANCES).map(|instance| replicas.ask(instance, instance, FIRST + instance));
        let answers: Vec<_> = stream::iter(first).buffered(FIRST_AT_A_TIME).collect().await;
        assert!(answers.iter().all(Result::is_ok), "every look-up is answered");
        if rate.per_second > 0.0 {
            sleep(Duration::from_secs_f64(f64::from(rate.burst) / rate.per_second)).await;
        }
        replicas
    }

    /// So many replicas with a store at `place`.
    pub async fn with(place: &StorePlace, count: usize, rate: RateSettings, fetch: Fetch) -> Self {
        let mut metrics = Metrics::new(&[]);
        let counted = metrics.with_store();
        let (mut stacks, mut stores) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let replicas = u32::try_from(count).expect("there are few replicas");
            let settings = StoreSettings { place: place.clone(), timeout: STORE_TIMEOUT, replicas };
            let store = Store::open(settings, counted.clone()).await.expect("the store can be used");
            let settings = Settings {
                breaker: BreakerSettings { failures: 0 },
                rate,
                concurrency: ConcurrencySettings { attempts: 4_096 },
                flights: 4_096,
                ..Settings::default()
            };
            let upstream = service_fn(move |lookup: Lookup| answered(lookup, fetch));
            let (_, stack) = stack(settings, Clock::system(), &Arc::default(), Some(&store), upstream);
            stacks.push(BoxCloneSyncService::new(stack));
            stores.push(store);
        }
        let hasher = RandomState::new();
        let instance = |number| {
            let instance = Instance::parse(&format!("0198c5a4-7d52-7c3e-9a41-{number:012}"));
            let credential = Credential::new(format!("token of {number}").into(), &hasher);
            (instance.expect("it is a UUID"), credential)
        };
        Self { stacks, stores, instances: (0..INSTANCES).map(instance).collect(), metrics }
    }

    /// Looks the contact with this number up, on a replica and for an instance of these numbers.
    pub fn ask(
        &self,
        replica: usize,
        instance: usize,
        contact: usize,
    ) -> impl Future<Output = Result<Answer, LookupError>> + Send + use<> {
        let (instance, credential) = self.instances[instance % INSTANCES].clone();
        let chat = ChatId::parse(&format!("{contact:013}")).expect("it is 13 digits");
        let deadline = Deadline::at(Instant::now() + DEADLINE);
        let lookup = Lookup::new(instance, credential, chat, CacheControl::default(), deadline);
        self.stacks[replica % self.stacks.len()].clone().oneshot(lookup)
    }

    /// The number of operations of the store of a kind that ended so.
    pub fn operations(&self, operation: &str, outcome: &str) -> u64 {
        self.counted(|line| {
            line.contains(&format!("operation=\"{operation}\""))
                && line.contains(&format!("outcome=\"{outcome}\""))
        })
    }

    /// The number of operations of the store that failed.
    pub fn failed(&self) -> u64 {
        self.counted(|line| line.contains("outcome=\"failed\"") || line.contains("outcome=\"timed_out\""))
    }

    /// Waits for what is still to be written.
    pub async fn close(&self) {
        for store in &self.stores {
            store.close().await;
        }
    }

    fn counted(&self, is: impl Fn(&str) -> bool) -> u64 {
        let text = self.metrics.text(MetricsForm::accepted(""));
        let lines =
            text.lines().filter(|line| line.starts_with("hypersender_store_operations_total") && is(line));
        lines.filter_map(|line| line.split(' ').next_back()?.parse::<u64>().ok()).sum()
    }
}

/// A server on this machine.
pub fn place(port: u16) -> StorePlace {
    StorePlace::Server(StoreServer::at("127.0.0.1", port, "hypersender-grpc"))
}

async fn answered(lookup: Lookup, fetch: Fetch) -> Result<Answer, LookupError> {
    let number = lookup.key.chat.as_str().parse().expect("it is 13 digits");
    let took = fetch.time(number);
    if !took.is_zero() {
        sleep(took).await;
    }
    let fetched = Now { instant: Instant::now(), wall: SystemTime::now() };
    let oe = (fetched.wall + LINK_LIFE).duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let length = LINK_BYTES.start() + number % LINK_BYTES.count();
    let link = format!("https://pps.whatsapp.net/v/t61.24694-24/{number}_1_1_n.jpg?oe={oe:X}&oh=");
    let link = PictureLink::parse(&format!("{link:a<length$}"), fetched.wall).expect("it is a link");
    Ok(Answer { finding: Finding::Picture(link), fetched, took, cache: CacheInfo::FETCHED })
}
