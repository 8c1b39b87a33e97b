//! [`Traces`]: the spans of calls and of attempts, sent to an OpenTelemetry collector by OTLP over gRPC or
//! HTTP.
//!
//! The spans are made with OpenTelemetry's own API and not from spans of `tracing`, for three reasons: no log
//! event can get into a trace and no span into a log line, no subscriber runs for each event, and one
//! dependency less is needed. OpenTelemetry's `Context` records which call a piece of work belongs to. It is
//! set while the future of the call is polled, and [`in_this_call`] carries it into other tasks. Work outside
//! a traced call makes no span.
//!
//! Names follow OpenTelemetry's semantic conventions 1.45; our own begin with `hypersender.`. No attribute
//! holds a name that a caller chose or a text of Hypersender's: values come from closed sets, except
//! Hypersender's address and its id of a request. Hypersender does not get the trace context, because it gets
//! no headers except those of its documentation.

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

/// Where spans are sent. The SDK reads the limits of a span from its own variables.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector, with scheme `http` or `https`. For HTTP it is the whole URL of the request.
    pub endpoint: Uri,
    /// The protocol of the collector.
    pub protocol: Protocol,
    /// The time-out of one export.
    pub timeout: Duration,
    /// Which calls are traced.
    pub sampler: Sampler,
    /// How spans are collected before they are sent.
    pub batch: BatchSettings,
    /// The name of the service in the spans, if it is not `hypersender-grpc`.
    pub service_name: Option<String>,
}

/// A protocol of collectors.
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
    /// The time between two exports.
    pub delay: Duration,
    /// The most spans that wait. Further ones are dropped.
    pub queue: usize,
    /// The most spans of one export. It is not larger than the queue.
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
/// The time for the last export at a stop. The process must end within a second after the last call, so spans
/// that the collector does not take in this time are lost.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// The services of gRPC itself, health and reflection. Probes call them every few seconds, and their spans
/// would hide all others.
const UNTRACED: &str = "grpc.";

/// The spans of this process.
#[derive(Clone, Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    /// The root context of each call. It carries the tracer for the spans inside the call.
    root: Context,
    /// The full names of the methods that get spans.
    methods: Arc<HashSet<Arc<str>>>,
}

impl Traces {
    /// Begins to send spans of `methods`, within a tokio runtime. Connects when there is something to send.
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

    /// Begins the span of a call, as part of its caller's trace if the headers name one. `None` for a method
    /// without spans, for a path that a caller made up, and when the sampler declines.
    #[must_use]
    pub fn call(&self, path: &str, headers: &HeaderMap) -> Option<CallSpan> {
        let method = self.methods.get(path.strip_prefix('/')?)?;
        CallSpan::begin(&self.root, method, headers)
    }

    /// Sends the remaining spans, for half a second at most.
    pub async fn stop(self) {
        let provider = self.provider;
        let stop = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
            warn!(error = chain(&error), "the last traces were not sent");
        }
    }
}

/// The service as the spans name it: from `OTEL_SERVICE_NAME`, else from `OTEL_RESOURCE_ATTRIBUTES`, else
/// this program.
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

/// Makes `work` part of the current call, also when another task polls it.
pub fn in_this_call<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

/// A link to the call that started a fetch, for the spans of other calls that share it.
#[derive(Clone, Debug)]
pub struct CallLink(Option<SpanContext>);

impl CallLink {
    /// A link to the current call.
    #[must_use]
    pub fn here() -> Self {
        Self(call::in_span(|span| span.span_context().clone()))
    }

    /// Adds the link to the span of the current call.
    pub fn follow(self) {
        if let Self(Some(origin)) = self {
            call::in_span(|span| span.add_link(origin, Vec::new()));
        }
    }
}
