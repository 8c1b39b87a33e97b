//! [`CallSpan`]: the span of one gRPC call, from its headers to the last byte of its answer.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::{
    Context, ContextGuard, KeyValue,
    trace::{Span, SpanKind, SpanRef, Status as SpanStatus, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;
use tonic::Code;

use super::caller;
use crate::{
    domain::{CacheInfo, CacheStatus},
    telemetry::codes::{LEFT, MISSING, is_server_fault, trace_name},
};

/// A traced call in progress. Its span ends when it is dropped. If it has not ended before, its caller left.
#[derive(Debug)]
pub struct CallSpan {
    context: Context,
    code: Code,
}

impl CallSpan {
    /// Begins the span of a call of `method` with these headers, unless the sampler declines.
    pub(super) fn begin(root: &Context, method: &Arc<str>, headers: &HeaderMap) -> Option<Self> {
        let tracer: &SdkTracer = root.get()?;
        let attributes =
            [KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method.clone())];
        let span = tracer.span_builder(method.to_string()).with_kind(SpanKind::Server);
        let span =
            tracer.build_with_context(span.with_attributes(attributes), &caller::context(root, headers));
        span.is_recording().then(|| Self { context: root.with_span(span), code: LEFT })
    }

    /// Makes the work of this thread part of the call, until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> ContextGuard {
        self.context.clone().attach()
    }

    /// Ends the call with the code of its answer. An answer without a code counts as UNKNOWN.
    pub fn end(mut self, code: Option<Code>) {
        self.code = code.unwrap_or(MISSING);
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        let name = trace_name(self.code);
        let span = self.context.span();
        span.set_attribute(KeyValue::new("rpc.response.status_code", name));
        if is_server_fault(self.code) {
            span.set_attribute(KeyValue::new("error.type", name));
            span.set_status(SpanStatus::error(""));
        }
        // The span is ended explicitly, because work that continues, such as a fetch for other callers, also
        // holds it.
        span.end();
    }
}

/// Records in the span of the current call, if it has one, how its answer was found.
pub fn trace_answer(found: &CacheInfo) {
    in_span(|span| {
        let status = match found.status {
            CacheStatus::Hit => "hit",
            CacheStatus::Miss => "miss",
            CacheStatus::Expired => "expired",
            CacheStatus::Refreshed => "refreshed",
            CacheStatus::Stale => "stale",
        };
        span.set_attribute(KeyValue::new("hypersender.cache.status", status));
        span.set_attribute(KeyValue::new("hypersender.cache.collapsed", found.collapsed));
    });
}

/// Runs `work` on the span of the current call, if it has one.
pub(super) fn in_span<T>(work: impl FnOnce(&SpanRef<'_>) -> T) -> Option<T> {
    Context::map_current(|context| context.has_active_span().then(|| work(&context.span())))
}
