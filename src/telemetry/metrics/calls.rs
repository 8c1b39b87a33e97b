//! [`Calls`]: the metrics of gRPC calls, with the names and labels of go-grpc-prometheus, which dashboards
//! know.

use std::sync::Arc;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;
use tonic::Code;

use super::histogram;
use crate::telemetry::codes::{CODES, LEFT, MISSING, metric_name};

/// In seconds. A hit takes well under a millisecond, a miss a few hundred, and no call more than 30 s.
const BOUNDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

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
    seconds: Histogram,
}

impl Calls {
    pub(super) fn new(methods: &[Method], registry: &mut Registry) -> Self {
        let started = Family::<Labels<3>, Counter>::default();
        let handled = Family::<Labels<4>, Counter>::default();
        let seconds = Family::<Labels<3>, Histogram>::new_with_constructor(|| histogram(BOUNDS));
        registry.register("grpc_server_started", "Calls that came in", started.clone());
        registry.register(
            "grpc_server_handled",
            "Calls that ended, by code; Canceled are those whose caller left",
            handled.clone(),
        );
        registry.register(
            "grpc_server_handling_seconds",
            "Time from a call's headers to the last byte of its answer",
            seconds.clone(),
        );
        let series = |method: &Method| {
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
                seconds: seconds.get_or_create_owned(&labels),
            })
        };
        let unknown = Method { service: UNKNOWN.to_owned(), name: UNKNOWN.to_owned(), kind: Kind::Unary };
        let by_path = methods.iter().map(|method| {
            let path = format!("/{}/{}", method.service, method.name);
            (path, series(method))
        });
        Self { by_path: by_path.collect(), unknown: series(&unknown) }
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

impl Call {
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
