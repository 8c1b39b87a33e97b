//! [`Lookups`]: the metrics of the layers between a caller and Hypersender.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use super::{counters, histogram};
use crate::{
    domain::{Absence, Answer, CacheStatus, Finding, LookupError, Purpose},
    telemetry::outcome::Outcome,
};

/// In seconds. Hypersender may itself wait 5 s for a WhatsApp session, and an attempt may take 15 s at most.
const BOUNDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 6.0, 10.0, 15.0];

/// The handles of the layers. Those of [`Lookups::default`] are not exported.
#[derive(Debug)]
pub struct Lookups {
    statuses: Statuses,
    entries: Gauge,
    bytes: Gauge,
    flights: Gauge,
    collapsed: Counter,
    retries: Counter,
    refused_caller: Counter,
    refused_batch: Counter,
    refused_avatar: Counter,
    refused_refresh: Counter,
    breakers: [Gauge; Phase::ALL.len()],
    outcomes: [Counter; Outcome::ALL.len()],
    seconds: Histogram,
    absent_null: Counter,
    absent_foreign_link: Counter,
    dead_links: Counter,
}

#[derive(Debug)]
struct Statuses {
    hit: Counter,
    miss: Counter,
    expired: Counter,
    refreshed: Counter,
    stale: Counter,
    failed: Counter,
}

/// The phase of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Lets everything pass.
    Closed,
    /// Lets nothing pass.
    Open,
    /// Waits for one probe.
    HalfOpen,
}

impl Phase {
    /// All of them, in the order of their declaration, so that `phase as usize` is an index.
    const ALL: [Self; Self::HalfOpen as usize + 1] = [Self::Closed, Self::Open, Self::HalfOpen];

    fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl Lookups {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let lookups =
            ("hypersender_cache_lookups", "Look-ups by how the cache answered; failed are without answer");
        let statuses = ["hit", "miss", "expired", "refreshed", "stale", "failed"];
        let [hit, miss, expired, refreshed, stale, failed] = counters(registry, lookups, "status", statuses);
        let limited = (
            "hypersender_rate_limited",
            "Attempts refused by this process's own rate limit, by the purpose of the look-up",
        );
        let purposes = ["caller", "batch", "avatar", "refresh"];
        let [refused_caller, refused_batch, refused_avatar, refused_refresh] =
            counters(registry, limited, "purpose", purposes);
        let attempts = ("hypersender_upstream_attempts", "Requests to Hypersender, by what they brought");
        let absent = (
            "hypersender_pictures_absent",
            "Answers of Hypersender without a picture to serve: null, or a link to a host that is not allowed",
        );
        let [absent_null, absent_foreign_link] =
            counters(registry, absent, "reason", ["null", "foreign_link"]);
        Self {
            statuses: Statuses { hit, miss, expired, refreshed, stale, failed },
            entries: gauge(registry, "hypersender_cache_entries", "Answers in the cache"),
            bytes: gauge(registry, "hypersender_cache_bytes", "Memory that they take, estimated"),
            flights: gauge(registry, "hypersender_flights", "Contacts that are being fetched"),
            collapsed: counter(
                registry,
                "hypersender_collapsed",
                "Look-ups that joined a fetch in progress instead of starting one",
            ),
            retries: counter(registry, "hypersender_upstream_retries", "Attempts after the first of a fetch"),
            refused_caller,
            refused_batch,
            refused_avatar,
            refused_refresh,
            breakers: breakers(registry),
            outcomes: counters(registry, attempts, "outcome", Outcome::ALL.map(Outcome::label)),
            seconds: seconds(registry),
            absent_null,
            absent_foreign_link,
            dead_links: counter(
                registry,
                "hypersender_dead_links",
                "Links that had already ended when Hypersender gave them",
            ),
        }
    }

    /// Counts a look-up that has ended, by the status of the cache. One of a batch, an avatar or a stream
    /// that found no turn has not ended: it starts again.
    pub fn answered(&self, result: &Result<Answer, LookupError>) {
        if matches!(result, Err(LookupError::NoTurnYet { .. })) {
            return;
        }
        let counter = match result.as_ref().map(|answer| answer.cache.status) {
            Ok(CacheStatus::Hit) => &self.statuses.hit,
            Ok(CacheStatus::Miss) => &self.statuses.miss,
            Ok(CacheStatus::Expired) => &self.statuses.expired,
            Ok(CacheStatus::Refreshed) => &self.statuses.refreshed,
            Ok(CacheStatus::Stale) => &self.statuses.stale,
            Err(_) => &self.statuses.failed,
        };
        counter.inc();
    }

    /// Sets the size of the cache.
    pub fn stored(&self, entries: usize, bytes: usize) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a fetch that begins.
    pub fn took_off(&self) {
        self.flights.inc();
    }

    /// Counts a fetch that ends.
    pub fn landed(&self) {
        self.flights.dec();
    }

    /// Counts a look-up that joins a fetch in progress.
    pub fn collapsed(&self) {
        self.collapsed.inc();
    }

    /// Counts a retry.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Counts an attempt that the server's own rate limit refused. A stream is never refused: it waits for
    /// spare turns.
    pub fn refused(&self, purpose: Purpose) {
        match purpose {
            Purpose::Caller => self.refused_caller.inc(),
            Purpose::Batch => self.refused_batch.inc(),
            Purpose::Refresh | Purpose::SpareRefresh => self.refused_refresh.inc(),
            Purpose::Avatar => self.refused_avatar.inc(),
            Purpose::Stream => 0,
        };
    }

    /// Moves the breaker of an instance from one phase to another; `None` stands for a breaker that does not
    /// exist.
    pub fn breaker(&self, from: Option<Phase>, to: Option<Phase>) {
        if from != to {
            from.map(|phase| self.breakers[phase as usize].dec());
            to.map(|phase| self.breakers[phase as usize].inc());
        }
    }

    /// Begins to count an attempt.
    #[must_use]
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt { metrics: self, start: Instant::now(), outcome: Outcome::Abandoned }
    }

    /// Counts a link that was dead on arrival.
    pub fn dead_link(&self) {
        self.dead_links.inc();
    }
}

/// An attempt on the wire. It is counted when it is dropped.
#[derive(Debug)]
pub struct Attempt<'a> {
    metrics: &'a Lookups,
    start: Instant,
    outcome: Outcome,
}

impl Attempt<'_> {
    /// Ends the attempt with its result.
    pub fn end(mut self, result: &Result<Finding, LookupError>) {
        self.outcome = Outcome::of(result);
        match result {
            Ok(Finding::Absent(Absence::Null)) => self.metrics.absent_null.inc(),
            Ok(Finding::Absent(Absence::ForeignLink)) => self.metrics.absent_foreign_link.inc(),
            Ok(Finding::Picture(_) | Finding::NotFound(_)) | Err(_) => 0,
        };
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.metrics.outcomes[self.outcome as usize].inc();
        self.metrics.seconds.observe(self.start.elapsed().as_secs_f64());
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// The gauges, in the order of [`Phase`].
fn breakers(registry: &mut Registry) -> [Gauge; Phase::ALL.len()] {
    let family = Family::<_, Gauge>::default();
    let help = "Instances whose circuit breaker is in this state; an open one pauses requests after failures";
    registry.register("hypersender_breaker_state", help, family.clone());
    Phase::ALL.map(|phase| family.get_or_create_owned(&[("state", phase.label())]))
}

fn seconds(registry: &mut Registry) -> Histogram {
    let seconds = histogram(BOUNDS);
    let help = "Time of a request to Hypersender, from the connection to the last byte";
    registry.register("hypersender_upstream_attempt_seconds", help, seconds.clone());
    seconds
}
