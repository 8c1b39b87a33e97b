//! [`AttemptSpan`]: the span of one request to Hypersender.

use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    trace::{Span as _, SpanKind, Status as SpanStatus, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use url::Url;

use crate::{
    domain::{Finding, Lookup, LookupError, Purpose},
    telemetry::outcome::Outcome,
};

/// The path below the root of the API. The values in braces are not recorded, and neither is the query, which
/// holds the contact.
const TEMPLATE: &str = "/{instance}/contacts/profile-picture";
const NAME: &str = "GET /{instance}/contacts/profile-picture";

/// An attempt on the wire, if its call is traced. Its span ends when it is dropped.
#[derive(Debug)]
pub struct AttemptSpan(Option<Attempt>);

#[derive(Debug)]
struct Attempt {
    span: Span,
    status: Option<u16>,
    outcome: Outcome,
    failed: bool,
}

impl AttemptSpan {
    /// Begins the span of a request to `base_url`.
    #[must_use]
    pub fn begin(base_url: &Url, lookup: &Lookup) -> Self {
        let span = Context::map_current(|context| {
            let tracer: &SdkTracer = context.get().filter(|_| context.has_active_span())?;
            let span = tracer.span_builder(NAME).with_kind(SpanKind::Client);
            Some(tracer.build_with_context(span.with_attributes(request(base_url, lookup)), context))
        });
        Self(span.map(|span| Attempt { span, status: None, outcome: Outcome::Abandoned, failed: true }))
    }

    /// Records the status of the answer, and Hypersender's id of the request if there is one.
    pub fn answered(&mut self, status: u16, request_id: Option<&str>) {
        let Some(attempt) = &mut self.0 else { return };
        attempt.status = Some(status);
        attempt.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if let Some(id) = request_id {
            let ids = vec![StringValue::from(id.to_owned())];
            let ids = Value::Array(Array::String(ids));
            attempt.span.set_attribute(KeyValue::new("http.response.header.s-request-id", ids));
        }
    }

    /// Ends the attempt with its result. An absent picture and a missing contact are answers and no failures.
    pub fn end(mut self, result: &Result<Finding, LookupError>) {
        if let Some(attempt) = &mut self.0 {
            (attempt.outcome, attempt.failed) = (Outcome::of(result), result.is_err());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.span.set_attribute(KeyValue::new("hypersender.outcome", self.outcome.label()));
        if self.failed {
            let status = self.status.filter(|status| *status >= 400);
            let error =
                status.map_or(Value::from(self.outcome.label()), |status| Value::from(status.to_string()));
            self.span.set_attribute(KeyValue::new("error.type", error));
            self.span.set_status(SpanStatus::error(""));
        }
        // The span is a field of this attempt. It is dropped next, which ends it.
    }
}

fn request(base_url: &Url, lookup: &Lookup) -> Vec<KeyValue> {
    let purpose = match lookup.purpose() {
        Purpose::Caller => "caller",
        Purpose::Batch => "batch",
        Purpose::Stream => "stream",
        Purpose::Avatar => "avatar",
        Purpose::Refresh | Purpose::SpareRefresh => "refresh",
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("url.template", TEMPLATE),
        KeyValue::new("hypersender.purpose", purpose),
    ];
    attributes.extend(base_url.host_str().map(|host| KeyValue::new("server.address", host.to_owned())));
    let port = base_url.port_or_known_default();
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    if lookup.resent > 0 {
        attributes.push(KeyValue::new("http.request.resend_count", i64::from(lookup.resent)));
    }
    attributes
}
