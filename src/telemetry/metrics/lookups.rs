//! [`Lookups`]: what the layers between a caller and Hypersender count.

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

/// Seconds. Hypersender may itself wait 5 s for a WhatsApp session; an attempt may take 15 s at most.
const BOUNDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 6.0, 10.0, 15.0];

/// Handles of the layers; those of [`Lookups::default`] are told to nobody.
#[derive(Debug)]
pub struct Lookups {
    statuses: Statuses,
    entries: Gauge,
    bytes: Gauge,
    flights: Gauge,
    collapsed: Counter,
    retries: Counter,
    refused_caller: Counter,
    refused_refresh: Counter,
    breakers: [Gauge; 3],
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

/// What a circuit breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Lets everything pass.
    Closed,
    /// Lets nothing pass.
    Open,
    /// Waits for one probe.
    HalfOpen,
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
            "Attempts refused by this process's own rate limit, for a caller or a background refresh",
        );
        let [refused_caller, refused_refresh] = counters(registry, limited, "purpose", ["caller", "refresh"]);
        let attempts = ("hypersender_upstream_attempts", "Requests to Hypersender, by what they brought");
        let absent = (
            "hypersender_pictures_absent",
            "Answers of Hypersender without a picture to hand out: null, or a link to a host that is not allowed",
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

    /// A look-up has ended, as far as the cache is concerned.
    pub fn answered(&self, result: &Result<Answer, LookupError>) {
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

    /// How much the cache holds now.
    pub fn stored(&self, entries: usize, bytes: usize) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A fetch has begun.
    pub fn took_off(&self) {
        self.flights.inc();
    }

    /// A fetch has ended.
    pub fn landed(&self) {
        self.flights.dec();
    }

    /// A look-up joins a fetch.
    pub fn collapsed(&self) {
        self.collapsed.inc();
    }

    /// Hypersender is asked again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Our own rate limit has refused an attempt.
    pub fn refused(&self, purpose: Purpose) {
        let counter = match purpose {
            Purpose::Caller => &self.refused_caller,
            Purpose::Refresh => &self.refused_refresh,
        };
        counter.inc();
    }

    /// The breaker of an instance goes from one phase to another; `None` when it comes into being or is dropped.
    pub fn breaker(&self, from: Option<Phase>, to: Option<Phase>) {
        if from != to {
            from.map(|phase| self.breakers[phase as usize].dec());
            to.map(|phase| self.breakers[phase as usize].inc());
        }
    }

    /// Hypersender is asked, now.
    #[must_use]
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt { metrics: self, start: Instant::now(), outcome: Outcome::Abandoned }
    }

    /// Hypersender gave a link that has ended.
    pub fn dead_link(&self) {
        self.dead_links.inc();
    }
}

/// An attempt on the wire; counted when it is dropped.
#[derive(Debug)]
pub struct Attempt<'a> {
    metrics: &'a Lookups,
    start: Instant,
    outcome: Outcome,
}

impl Attempt<'_> {
    /// What the attempt has brought.
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

/// In the order of [`Phase`].
fn breakers(registry: &mut Registry) -> [Gauge; 3] {
    let family = Family::<_, Gauge>::default();
    let help = "Instances whose circuit breaker is in this state; an open one is left alone after failures";
    registry.register("hypersender_breaker_state", help, family.clone());
    ["closed", "open", "half_open"].map(|state| family.get_or_create_owned(&[("state", state)]))
}

fn seconds(registry: &mut Registry) -> Histogram {
    let seconds = histogram(BOUNDS);
    let help = "Time of a request to Hypersender, from the connection to the last byte";
    registry.register("hypersender_upstream_attempt_seconds", help, seconds.clone());
    seconds
}
