//! [`Calls`]: the metrics of gRPC calls, with the names and labels of go-grpc-prometheus, which dashboards
//! know.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;
use tonic::Code;

use super::histogram;
use crate::telemetry::codes::{CODES, LEFT, MISSING, metric_name};

/// In seconds. A hit takes well under a millisecond, a miss a few hundred, and no call more than 30 s.
const UNARY_BOUNDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// The same for calls with a stream, which take as long as their work, or as their connection.
const STREAM_BOUNDS: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0];

/// The label of all paths that are no known method.
const UNKNOWN: &str = "unknown";

/// A method that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// The full name of the service.
    pub service: String,
    /// The name of the method.
    pub name: String,
    /// Which side of the call streams.
    pub kind: Kind,
}

/// Which side of a call streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither side.
    Unary,
    /// The caller.
    ClientStream,
    /// The server.
    ServerStream,
    /// Both sides.
    BidiStream,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }

    fn bounds(self) -> &'static [f64] {
        match self {
            Self::Unary => UNARY_BOUNDS,
            Self::ClientStream | Self::ServerStream | Self::BidiStream => STREAM_BOUNDS,
        }
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

/// The metrics of calls, by method.
#[derive(Debug)]
pub struct Calls {
    /// The methods, those with the most calls first. There are a handful, so a search is faster than hashing
    /// the path.
    by_path: Vec<(String, Arc<Handles>)>,
    unknown: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    started: Counter,
    handled: [Counter; CODES.len()],
    received: Counter,
    sent: Counter,
    seconds: Histogram,
}

/// The histograms of all methods under one name. The `Family` of the library gives all of them the same
/// bounds.
#[derive(Debug, Default)]
struct Durations(Vec<(Labels<3>, Histogram)>);

impl Durations {
    fn add(&mut self, labels: Labels<3>, bounds: &'static [f64]) -> Histogram {
        let histogram = histogram(bounds);
        self.0.push((labels, histogram.clone()));
        histogram
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|(labels, histogram)| histogram.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        Histogram::TYPE
    }
}

impl Calls {
    pub(super) fn new(methods: &[Method], registry: &mut Registry) -> Self {
        let started = Family::<Labels<3>, Counter>::default();
        let handled = Family::<Labels<4>, Counter>::default();
        let [received, sent] = [(); 2].map(|()| Family::<Labels<3>, Counter>::default());
        let mut seconds = Durations::default();
        let mut series = |method: &Method| {
            let [kind, service, name] = [
                ("grpc_type", method.kind.label().to_owned()),
                ("grpc_service", method.service.clone()),
                ("grpc_method", method.name.clone()),
            ];
            let labels = [kind.clone(), service.clone(), name.clone()];
            Arc::new(Handles {
                started: started.get_or_create_owned(&labels),
                handled: CODES.map(|code| {
                    let code = ("grpc_code", metric_name(code).to_owned());
                    handled.get_or_create_owned(&[kind.clone(), service.clone(), name.clone(), code])
                }),
                received: received.get_or_create_owned(&labels),
                sent: sent.get_or_create_owned(&labels),
                seconds: seconds.add(labels, method.kind.bounds()),
            })
        };
        let unknown = Method { service: UNKNOWN.to_owned(), name: UNKNOWN.to_owned(), kind: Kind::Unary };
        let by_path = methods.iter().map(|method| {
            let path = format!("/{}/{}", method.service, method.name);
            (path, series(method))
        });
        let calls = Self { by_path: by_path.collect(), unknown: series(&unknown) };
        registry.register("grpc_server_started", "Calls that came in", started);
        registry.register(
            "grpc_server_handled",
            "Calls that ended, by code; Canceled are those whose caller left",
            handled,
        );
        registry.register("grpc_server_msg_received", "Messages of requests", received);
        registry.register("grpc_server_msg_sent", "Messages of answers", sent);
        registry.register(
            "grpc_server_handling_seconds",
            "Time from a call's headers to the last byte of its answer",
            seconds,
        );
        calls
    }

    /// Begins to count a call of the method at `path`.
    #[must_use]
    pub fn begin(&self, path: &str) -> Call {
        let handles = self
            .by_path
            .iter()
            .find(|(known, _)| known == path)
            .map_or(&self.unknown, |(_, handles)| handles)
            .clone();
        handles.started.inc();
        Call { handles, start: Instant::now(), code: LEFT }
    }
}

/// A call in progress. It is counted as handled when it is dropped. If it has not ended before, its caller
/// left.
#[derive(Debug)]
pub struct Call {
    handles: Arc<Handles>,
    start: Instant,
    code: Code,
}

/// Counts the messages of one request.
#[derive(Debug)]
pub struct Received(Counter);

impl Received {
    /// Counts `messages` that have arrived.
    pub fn count(&self, messages: u64) {
        self.0.inc_by(messages);
    }
}

impl Call {
    /// Counts the messages of the request.
    #[must_use]
    pub fn received(&self) -> Received {
        Received(self.handles.received.clone())
    }

    /// Counts `messages` of the response.
    pub fn sent(&self, messages: u64) {
        self.handles.sent.inc_by(messages);
    }

    /// Ends the call with the code of its answer. An answer without a code counts as UNKNOWN.
    pub fn end(mut self, code: Option<Code>) {
        self.code = code.unwrap_or(MISSING);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.handles.handled[self.code as usize].inc();
        self.handles.seconds.observe(self.start.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{Method, MethodKind, Metrics, MetricsForm};

    #[test]
    fn streams_have_bounds_of_their_own() {
        let method = |kind, name: &str| Method { service: "s".to_owned(), name: name.to_owned(), kind };
        let (unary, stream) = (method(MethodKind::Unary, "Get"), method(MethodKind::ServerStream, "Stream"));
        let text = Metrics::new(&[unary, stream]).text(MetricsForm::Prometheus);
        for (kind, name, bound, expected) in [
            ("unary", "Get", "0.0005", true),
            ("unary", "Get", "30.0", true),
            ("unary", "Get", "7200.0", false),
            ("server_stream", "Stream", "0.0005", false),
            ("server_stream", "Stream", "1.0", true),
            ("server_stream", "Stream", "7200.0", true),
        ] {
            let labels = format!(r#"grpc_type="{kind}",grpc_service="s",grpc_method="{name}""#);
            let bucket = format!(r#"le="{bound}""#);
            let has = |line: &str| line.contains(&labels) && line.contains(&bucket);
            assert_eq!(text.lines().any(has), expected, "{name} {bound} in {text}");
        }
        assert_eq!(text.matches("# TYPE grpc_server_handling_seconds histogram").count(), 1);
    }
}
