//! Where traces go: the standard variables of OpenTelemetry, as far as a slip of the pen in them would go unnoticed.
//!
//! All others are the SDK's to read: `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_*` and their like.

use std::cell::RefCell;

use http::{Uri, uri::Scheme};

use super::authorities;
use crate::telemetry::TraceSettings;

/// A name, and what is wrong with its value. The value itself is not told: an endpoint may hold a password.
pub type Fault = (&'static str, String);

const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";

/// What the variables say, each read by `variable`, for which one that is empty is not set; `None` when nothing is to be
/// traced. Of two that mean the same, that for traces alone counts.
///
/// # Errors
///
/// Every fault, if traces are wanted at all.
pub fn read<'a>(
    variable: impl Fn(&'static str) -> Result<Option<&'a str>, Fault>,
) -> Result<Option<TraceSettings>, Vec<Fault>> {
    let reader = Reader { variable, faults: RefCell::default() };
    let off = reader.value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || reader.value(EXPORTER) == Some("none");
    let Some((name, text)) = reader.first(ENDPOINT).filter(|_| !off) else { return reader.unless_any(None) };
    let endpoint = endpoint(text);
    match &endpoint {
        None => reader.note(name, "not an http or https URL such as http://127.0.0.1:4317"),
        Some(endpoint) if endpoint.scheme() == Some(&Scheme::HTTPS) => {
            if let Some(fault) = authorities::missing() {
                reader.note(name, &fault);
            }
        }
        Some(_) => {}
    }
    let given = |name| Some((name, reader.value(name)?));
    reader.check(given(EXPORTER), |text| text == "otlp", "neither otlp nor none");
    reader.check(reader.first(PROTOCOL), |text| text == "grpc", "not grpc, which alone is spoken");
    reader.check(reader.first(TIMEOUT), is_time, "not a number of milliseconds above 0");
    reader.check(given(SAMPLER), is_sampler, SAMPLERS);
    if reader.value(SAMPLER).is_some_and(|sampler| sampler.ends_with("traceidratio")) {
        reader.check(given(RATIO), is_ratio, "not a number from 0 to 1");
    }
    let service_name = reader.value("OTEL_SERVICE_NAME").map(str::to_owned);
    let settings = endpoint.map(|endpoint| TraceSettings { endpoint, service_name });
    reader.unless_any(settings)
}

/// Reads variables and notes their faults.
struct Reader<F> {
    variable: F,
    faults: RefCell<Vec<Fault>>,
}

impl<'a, F: Fn(&'static str) -> Result<Option<&'a str>, Fault>> Reader<F> {
    fn value(&self, name: &'static str) -> Option<&'a str> {
        (self.variable)(name).unwrap_or_else(|(name, fault)| {
            self.note(name, &fault);
            None
        })
    }

    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, &'a str)> {
        names.into_iter().find_map(|name| Some((name, self.value(name)?)))
    }

    fn note(&self, name: &'static str, fault: &str) {
        let mut faults = self.faults.borrow_mut();
        if !faults.iter().any(|(known, _)| *known == name) {
            faults.push((name, fault.to_owned()));
        }
    }

    fn check(&self, given: Option<(&'static str, &'a str)>, right: fn(&str) -> bool, fault: &str) {
        if let Some((name, _)) = given.filter(|(_, text)| !right(text)) {
            self.note(name, fault);
        }
    }

    fn unless_any<T>(self, settings: Option<T>) -> Result<Option<T>, Vec<Fault>> {
        let faults = self.faults.into_inner();
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }
}

fn endpoint(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?.as_str();
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    (scheme && !authority.contains('@') && uri.query().is_none()).then_some(uri)
}

fn is_time(text: &str) -> bool {
    text.parse::<u64>().is_ok_and(|milliseconds| milliseconds > 0)
}

const SAMPLERS: &str = "not always_on, always_off, traceidratio, nor one of these after parentbased_";

fn is_sampler(text: &str) -> bool {
    let sampler = text.strip_prefix("parentbased_").unwrap_or(text);
    matches!(sampler, "always_on" | "always_off" | "traceidratio")
}

fn is_ratio(text: &str) -> bool {
    text.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECTOR: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    fn read_these(variables: &[(&str, &str)]) -> Result<Option<String>, Vec<&'static str>> {
        let value =
            |name: &str| Ok(variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value));
        let read = read(value).map(|settings| settings.map(|settings| settings.endpoint.to_string()));
        read.map_err(|faults| faults.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn traces_are_on_where_a_collector_is_named() {
        let collector = Ok(Some("http://collector:4317/".to_owned()));
        let other = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/");
        assert_eq!(read_these(&[]), Ok(None));
        assert_eq!(read_these(&[COLLECTOR]), collector);
        assert_eq!(read_these(&[other]), Ok(Some("https://other/".into())));
        assert_eq!(read_these(&[COLLECTOR, other]), Ok(Some("https://other/".into())));
        assert_eq!(read_these(&[COLLECTOR, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
        assert_eq!(read_these(&[COLLECTOR, ("OTEL_SDK_DISABLED", "no")]), collector);
        assert_eq!(read_these(&[COLLECTOR, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        // What is wrong with traces that nobody wants is nobody's concern.
        assert_eq!(read_these(&[("OTEL_TRACES_SAMPLER", "x")]), Ok(None));
    }

    #[test]
    fn values_that_mean_something_are_taken() {
        for sampler in ["always_on", "parentbased_always_off", "parentbased_traceidratio"] {
            let variables = [
                COLLECTOR,
                ("OTEL_TRACES_SAMPLER", sampler),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("OTEL_TRACES_EXPORTER", "otlp"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ];
            assert!(read_these(&variables).is_ok(), "{sampler}");
        }
    }

    #[test]
    fn each_fault_has_a_name() {
        for endpoint in
            ["", "collector:4317", "collector", "unix:///x", "ftp://x/", "http://a:b@c/", "http://x/?y"]
        {
            let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
            assert_eq!(read_these(&variables), Err(vec!["OTEL_EXPORTER_OTLP_ENDPOINT"]), "{endpoint:?}");
        }
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ] {
            assert_eq!(read_these(&[COLLECTOR, (name, value)]), Err(vec![name]), "{value}");
        }
        for ratio in ["", "half", "1.5", "-0.1", "NaN"] {
            let variables = [COLLECTOR, ("OTEL_TRACES_SAMPLER", "traceidratio"), (RATIO, ratio)];
            assert_eq!(read_these(&variables), Err(vec![RATIO]), "{ratio:?}");
        }
        let both = [("OTEL_EXPORTER_OTLP_ENDPOINT", "x"), ("OTEL_TRACES_SAMPLER", "x")];
        assert_eq!(read_these(&both), Err(vec!["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER"]));
    }
}
