//! The caller's trace: W3C Trace Context in `traceparent` and `tracestate`.

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The longest `tracestate` that is kept, as W3C Trace Context (3.3.1.5) recommends. A longer one is dropped,
/// because it would be part of every span.
const STATE_BYTES_MAX: usize = 512;

/// The length of a version, two ids and flags. The SDK would accept shorter ids and pad them with zeros.
const PARENT_BYTES_MIN: usize = 55;

/// The root context as part of the caller's trace. An unreadable header is ignored, as if the call began a
/// trace.
pub fn context(root: &Context, headers: &HeaderMap) -> Context {
    match Carrier::read(headers) {
        Some(carrier) => TraceContextPropagator::new().extract_with_context(root, &carrier),
        None => root.clone(),
    }
}

struct Carrier<'a> {
    parent: &'a str,
    state: String,
}

impl<'a> Carrier<'a> {
    /// `None` unless there is exactly one parent. With two, it is unknown which one is right.
    fn read(headers: &'a HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all("traceparent").iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        // Several headers make one list (RFC 9110, 5.3).
        let states = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok());
        let mut state = states.collect::<Vec<_>>().join(",");
        if state.len() > STATE_BYTES_MAX {
            state.clear();
        }
        let parent = parent.to_str().ok().filter(|parent| parent.len() >= PARENT_BYTES_MIN)?;
        Some(Self { parent, state })
    }
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.parent),
            "tracestate" => Some(&self.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use opentelemetry::trace::TraceContextExt;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// The caller's span, whether it is sampled, and its state.
    fn read(headers: &[(&'static str, &str)]) -> Option<(String, bool, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let context = context(&Context::new(), &map);
        let span = context.span();
        let caller = span.span_context();
        let id = || format!("{:x}-{:x}", caller.trace_id(), caller.span_id());
        context.has_active_span().then(|| (id(), caller.is_sampled(), caller.trace_state().header()))
    }

    #[test]
    fn a_parent_is_taken_as_it_is() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736-f067aa0ba902b7".to_owned();
        assert_eq!(read(&[("traceparent", PARENT)]), Some((id.clone(), true, String::new())));
        let unsampled = PARENT.replace("-01", "-00");
        assert_eq!(read(&[("traceparent", &unsampled)]), Some((id.clone(), false, String::new())));
        let states = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
        assert_eq!(read(&states), Some((id, true, "a=1,b=2".into())));
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        for parent in ["", "00", "00-1-1-01", &PARENT.to_uppercase(), &PARENT.replace("00-", "ff-"), "\u{fc}"]
        {
            assert_eq!(read(&[("traceparent", parent)]), None, "{parent:?}");
        }
        assert_eq!(read(&[("tracestate", "a=1")]), None);
        assert_eq!(read(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        let long = format!("a={}", "x".repeat(511));
        for state in ["A=1", "a", &long] {
            let read = read(&[("traceparent", PARENT), ("tracestate", state)]);
            assert_eq!(read.map(|(_, sampled, state)| (sampled, state)), Some((true, String::new())));
        }
    }
}
