//! [`Traces`]: the spans of calls and of attempts, sent to an OpenTelemetry collector by OTLP over gRPC or HTTP.
//!
//! Made by OpenTelemetry's own interface and not from spans of `tracing`: no log event can get into a trace and no span
//! into a log line, no subscriber is there that every event would have to ask, and one dependency less is needed. Which
//! call a piece of work belongs to is told by OpenTelemetry's `Context`, set while the call's future is polled; what
//! goes on in a task of its own takes it along by [`in_this_call`]. Where there is no call that is traced, nothing is.
//!
//! Names are those of OpenTelemetry's semantic conventions 1.45, our own begin with `hypersender.`. No attribute holds
//! what a caller names or what upstream writes: values come from closed sets, except upstream's address and its id of a
//! request. Upstream is not told of the trace: it gets the headers that its page lists, and no others.

mod attempt;
mod call;
mod caller;
mod exporter;
mod http;

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use ::http::{HeaderMap, Uri};
use opentelemetry::{
    Context, InstrumentationScope,
    context::FutureExt,
    trace::{SpanContext, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::{info, warn};

use self::exporter::Exporter;
pub use self::{
    attempt::AttemptSpan,
    call::{CallSpan, trace_answer},
};
use super::{chain, metrics::Method};

/// Where spans go. How much one may hold, the SDK reads from its own variables.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector; `http` or `https`. With HTTP, the whole path that is asked.
    pub endpoint: Uri,
    /// What the collector speaks.
    pub protocol: Protocol,
    /// Time for one export.
    pub timeout: Duration,
    /// Which calls are traced.
    pub sampler: Sampler,
    /// How spans are collected before they are sent.
    pub batch: BatchSettings,
    /// Who the spans are of, where it is not `hypersender-grpc`.
    pub service_name: Option<String>,
}

/// What a collector speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP in protobuf over HTTP.
    HttpProtobuf,
}

/// How spans are collected before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Time between two exports.
    pub delay: Duration,
    /// Spans that wait; further ones are dropped.
    pub queue: usize,
    /// Spans of one export, at most as many as may wait.
    pub size: usize,
}

/// The defaults of OpenTelemetry's batch processor.
impl Default for BatchSettings {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), queue: 2_048, size: 512 }
    }
}

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Time for the last spans at a stop: the process must be gone within a second after the last call. What a collector
/// does not take in that time is lost.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// Services of gRPC itself, health and reflection: asked every few seconds by machines, they would drown all else.
const UNTRACED: &str = "grpc.";

/// The spans of this process.
#[derive(Clone, Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    /// What the context of each call begins with: the tracer, for whoever adds a span to the call.
    root: Context,
    /// Full names of the methods that get spans.
    methods: Arc<HashSet<Arc<str>>>,
}

impl Traces {
    /// Begins to send spans of `methods`, within a tokio runtime; connects when there is something to send.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be used: for `https`, when the machine has no certificate store.
    pub fn start(settings: Settings, methods: &[Method]) -> Result<Self, String> {
        let authority = settings.endpoint.authority().map_or("", |authority| authority.as_str()).to_owned();
        let exporter = Exporter::new(&settings)?;
        let BatchSettings { delay, queue, size } = settings.batch;
        let batch = BatchConfigBuilder::default()
            .with_scheduled_delay(delay)
            .with_max_queue_size(queue)
            .with_max_export_batch_size(size)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(settings.service_name))
            .with_sampler(settings.sampler)
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
            .build();
        let scope = InstrumentationScope::builder(NAME).with_version(VERSION).build();
        let root = Context::new().with_value(provider.tracer_with_scope(scope));
        let methods = methods.iter().filter(|method| !method.service.starts_with(UNTRACED));
        let methods = methods.map(|method| format!("{}/{}", method.service, method.name).into());
        info!(collector = authority, "sending traces");
        Ok(Self { provider, root, methods: Arc::new(methods.collect()) })
    }

    /// The span of a call that begins now, part of its caller's trace if that is told; `None` when the method has none,
    /// as paths that callers make up, or when the sampler does not want it.
    #[must_use]
    pub fn call(&self, path: &str, headers: &HeaderMap) -> Option<CallSpan> {
        let method = self.methods.get(path.strip_prefix('/')?)?;
        CallSpan::begin(&self.root, method, headers)
    }

    /// Sends what is left, for half a second at most.
    pub async fn stop(self) {
        let provider = self.provider;
        let stop = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
            warn!(error = chain(&error), "the last traces were not sent");
        }
    }
}

/// The service as the spans name it: by `OTEL_SERVICE_NAME`, else by `OTEL_RESOURCE_ATTRIBUTES`, else as this program.
fn resource(service_name: Option<String>) -> Resource {
    let own = [("service.name", NAME), ("service.version", VERSION)];
    let resource = Resource::builder_empty()
        .with_attributes(own.map(|(key, value)| opentelemetry::KeyValue::new(key, value)))
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match service_name {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// `work`, wherever it is polled, as part of the call that is being worked on now.
pub fn in_this_call<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

/// A call that others may have to point to, since its work was theirs too.
#[derive(Clone, Debug)]
pub struct CallLink(Option<SpanContext>);

impl CallLink {
    /// To the call that is being worked on now.
    #[must_use]
    pub fn here() -> Self {
        Self(call::in_span(|span| span.span_context().clone()))
    }

    /// Points to it from the call that is being worked on now.
    pub fn follow(self) {
        if let Self(Some(origin)) = self {
            call::in_span(|span| span.add_link(origin, Vec::new()));
        }
    }
}
