//! [`Upstream`]: a test double below the stack. It answers by a script and records the attempts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use hypersender_grpc::{
    domain::{Absence, Answer, AttemptError, CacheInfo, Finding, Lookup, LookupError},
    stack::Clock,
};
use tokio::time::{Instant, sleep};
use tower::Service;

use super::{DAY, link};

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The number of the attempt, counted from 1 over all attempts.
    pub number: usize,
    pub of_key: usize,
    pub instance: String,
    pub chat: String,
    /// The time since the beginning.
    pub at: Duration,
}

/// The outcome of an attempt, and its time.
#[derive(Clone, Debug)]
pub struct Reply {
    after: Duration,
    outcome: Option<Result<Finding, AttemptError>>,
}

impl Reply {
    pub fn says(outcome: Result<Finding, LookupError>) -> Self {
        Self { after: Duration::ZERO, outcome: Some(outcome.map_err(Into::into)) }
    }

    /// A link that expires in ten days.
    pub fn picture() -> Self {
        Self::says(Ok(link(10 * DAY)))
    }

    pub fn null() -> Self {
        Self::says(Ok(Finding::Absent(Absence::Null)))
    }

    pub fn fails(error: LookupError) -> Self {
        Self::says(Err(error))
    }

    /// The network in front of the API gives an answer that has the meaning of this error.
    pub fn fails_in_front(error: LookupError) -> Self {
        let outcome = Some(Err(AttemptError { error, is_from_api: false }));
        Self { after: Duration::ZERO, outcome }
    }

    pub fn panics() -> Self {
        Self { after: Duration::ZERO, outcome: None }
    }

    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<dyn Fn(&Attempt) -> Reply + Send + Sync>,
    clock: Clock,
    start: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    attempts: Vec<Attempt>,
    of_key: HashMap<(String, String), usize>,
    on_wire: HashMap<String, Gauge>,
    all: Gauge,
}

#[derive(Default)]
struct Gauge {
    now: usize,
    most: usize,
}

impl Gauge {
    fn rise(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

impl Upstream {
    pub fn new(clock: Clock, script: impl Fn(&Attempt) -> Reply + Send + Sync + 'static) -> Self {
        let (script, seen) = (Box::new(script), Mutex::default());
        Self { shared: Arc::new(Shared { script, clock, start: Instant::now(), seen }) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.seen().attempts.clone()
    }

    /// The times of the attempts, in milliseconds since the beginning.
    pub fn times(&self) -> Vec<u128> {
        self.seen().attempts.iter().map(|attempt| attempt.at.as_millis()).collect()
    }

    pub fn calls_of(&self, instance: &str) -> usize {
        self.seen().attempts.iter().filter(|attempt| attempt.instance == instance).count()
    }

    /// The most attempts that were in flight at the same time, over all instances.
    pub fn most_at_once(&self) -> usize {
        self.seen().all.most
    }

    pub fn most_at_once_of(&self, instance: &str) -> usize {
        self.seen().on_wire.get(instance).map_or(0, |gauge| gauge.most)
    }

    pub fn on_wire(&self) -> usize {
        self.seen().all.now
    }

    fn note(&self, lookup: &Lookup) -> Attempt {
        let mut seen = self.seen();
        let instance = lookup.key.scope.instance.as_str().to_owned();
        let chat = lookup.key.chat.as_str().to_owned();
        let of_key = seen.of_key.entry((instance.clone(), chat.clone())).or_default();
        *of_key += 1;
        let of_key = *of_key;
        seen.on_wire.entry(instance.clone()).or_default().rise();
        seen.all.rise();
        let number = seen.attempts.len() + 1;
        let attempt = Attempt { number, of_key, instance, chat, at: self.shared.start.elapsed() };
        seen.attempts.push(attempt.clone());
        attempt
    }

    async fn answer(self, lookup: Lookup) -> Result<Answer, AttemptError> {
        let attempt = self.note(&lookup);
        let _on_wire = OnWire { upstream: self.clone(), instance: attempt.instance.clone() };
        let reply = (self.shared.script)(&attempt);
        if !reply.after.is_zero() {
            sleep(reply.after).await;
        }
        let finding = reply.outcome.expect("this attempt panics on purpose")?;
        Ok(Answer { finding, fetched: self.shared.clock.now(), took: reply.after, cache: CacheInfo::FETCHED })
    }
}

/// An attempt in flight. Dropping it, at its end or earlier, takes it out of the count.
struct OnWire {
    upstream: Upstream,
    instance: String,
}

impl Drop for OnWire {
    fn drop(&mut self) {
        let mut seen = self.upstream.shared.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.all.now -= 1;
        if let Some(gauge) = seen.on_wire.get_mut(&self.instance) {
            gauge.now -= 1;
        }
    }
}

impl Service<Lookup> for Upstream {
    type Response = Answer;
    type Error = AttemptError;
    type Future = BoxFuture<'static, Result<Answer, AttemptError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> Self::Future {
        Box::pin(self.clone().answer(lookup))
    }
}
