//! [`Metrics`]: the counters of this process, and their text for scrapers.
//!
//! Code that counts holds handles that were made once, so an event costs one or two atomic additions and
//! builds no label. Every label has a closed set of values, all of which exist from the start, at zero.
//! Instances, contacts and paths are chosen by callers, so they are never labels.

mod avatars;
mod calls;
mod end;
mod lookups;
mod many;
mod store;

use std::sync::Arc;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

pub use self::{
    avatars::{AvatarOutcome, Avatars, DownloadOutcome},
    calls::{Call, Calls, Kind, Method, Received},
    end::End,
    lookups::{Attempt, Lookups, Phase},
    many::{Many, ManyMethod, ResultKind},
    store::{LeaseResult, Operation, Store, StoreOutcome, StoredAnswer},
};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The metrics of the layers between a caller and Hypersender.
    pub lookups: Arc<Lookups>,
    /// The metrics of batches and streams.
    pub many: Arc<Many>,
    /// The metrics of the gRPC server.
    pub calls: Arc<Calls>,
    /// The time at which a drain cuts the calls that are left.
    pub drain: End,
}

/// The forms of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Form {
    /// The form that a scraper with this `Accept` header reads.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the text.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Metrics of the calls of `methods` and of all look-ups, from zero.
    #[must_use]
    pub fn new(methods: &[Method]) -> Self {
        let mut registry = Registry::default();
        let version = Family::<_, ConstGauge>::new_with_constructor(|| ConstGauge::new(1));
        let _ = version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build_info", "Always 1; the label tells the version of hypersender-grpc", version);
        let calls = Arc::new(Calls::new(methods, &mut registry));
        let lookups = Arc::new(Lookups::new(&mut registry));
        let many = Arc::new(Many::new(&mut registry));
        let drain = End::of_drain(&mut registry);
        Self { registry, lookups, many, calls, drain }
    }

    /// Adds the metrics of a store, from zero. Call it once, and only in a process that has a store.
    #[must_use]
    pub fn with_store(&mut self) -> Arc<Store> {
        Arc::new(Store::new(&mut self.registry))
    }

    /// Adds the metrics of the avatars, from zero. Call it once, and only in a process that serves avatars.
    #[must_use]
    pub fn with_avatars(&mut self) -> Arc<Avatars> {
        Arc::new(Avatars::new(&mut self.registry))
    }

    /// Adds the end of the certificate of the server. Call it once, and only in a process that has one.
    #[must_use]
    pub fn with_certificate(&mut self) -> End {
        End::of_certificate(&mut self.registry)
    }

    /// The text with the current values.
    #[must_use]
    pub fn text(&self, form: Form) -> String {
        let mut text = String::new();
        // Writing to a string does not fail, and neither does the encoding of these metrics.
        let _ = encode(&mut text, &self.registry);
        match form {
            Form::OpenMetrics => text,
            Form::Prometheus => without_open_metrics(&text),
        }
    }
}

/// The same text in the Prometheus format, which describes a counter under the name of its sample and has no
/// end mark.
fn without_open_metrics(text: &str) -> String {
    let describes = |line: &str, kind: &str| {
        let words = line.strip_prefix("# ")?.strip_prefix(kind)?.strip_prefix(' ')?;
        words.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()))
    };
    let counters: Vec<_> = text
        .lines()
        .filter_map(|line| describes(line, "TYPE"))
        .filter_map(|(name, kind)| (kind == "counter").then_some(name))
        .collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let renamed = ["HELP", "TYPE"].into_iter().find_map(|kind| {
            let (name, rest) = describes(line, kind)?;
            counters.contains(&name).then(|| format!("# {kind} {name}_total {rest}"))
        });
        out.push_str(renamed.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}

/// A counter for each value of one label.
type CounterByLabel = Family<[(&'static str, &'static str); 1], Counter>;

/// Registers a counter for each of `values`. `name` lacks the suffix `_total`, which the encoder adds.
fn counters<const N: usize>(
    registry: &mut Registry,
    (name, help): (&str, &str),
    label: &'static str,
    values: [&'static str; N],
) -> [Counter; N] {
    let family = CounterByLabel::default();
    registry.register(name, help, family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

fn histogram(bounds: &'static [f64]) -> Histogram {
    Histogram::new(bounds.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_form_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        for (accept, form) in [
            ("", Form::Prometheus),
            ("*/*", Form::Prometheus),
            ("text/plain", Form::Prometheus),
            (prometheus, Form::OpenMetrics),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept:?}");
        }
    }

    #[test]
    fn only_a_process_with_a_store_exports_its_metrics() {
        let mut metrics = Metrics::new(&[]);
        assert!(!metrics.text(Form::Prometheus).contains("_store_"));
        let store = metrics.with_store();
        store.operation(Operation::Turn, StoreOutcome::TimedOut, std::time::Duration::from_millis(100));
        store.answer(StoredAnswer::Stale);
        store.lease(LeaseResult::TakenOver);
        store.attached(true);
        store.clock_offset(-1.5);
        let text = metrics.text(Form::Prometheus);
        for line in [
            "hypersender_store_operations_total{operation=\"turn\",outcome=\"timed_out\"} 1",
            "hypersender_store_operations_total{operation=\"read\",outcome=\"ok\"} 0",
            "hypersender_store_operation_seconds_count 1",
            "hypersender_store_attached 1",
            "hypersender_store_answers_total{result=\"stale\"} 1",
            "hypersender_store_answers_total{result=\"unreadable\"} 0",
            "hypersender_leases_total{result=\"taken_over\"} 1",
            "hypersender_store_clock_offset_seconds -1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn both_forms_hold_the_same_samples() {
        let metrics = Metrics::new(&[]);
        let samples = |form| {
            let text = metrics.text(form);
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(Form::OpenMetrics), samples(Form::Prometheus));
        assert!(metrics.text(Form::OpenMetrics).ends_with("# EOF\n"));
        let text = metrics.text(Form::Prometheus);
        assert!(!text.contains("# EOF"));
        assert!(text.contains("# TYPE hypersender_upstream_retries_total counter\n"), "{text}");
        assert!(text.contains("# TYPE hypersender_upstream_attempt_seconds histogram\n"), "{text}");
    }
}
