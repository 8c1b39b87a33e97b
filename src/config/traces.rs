//! The settings of traces, from the standard variables of OpenTelemetry. Only variables in which a mistake
//! would go unnoticed are read here; the SDK reads all others, such as `OTEL_RESOURCE_ATTRIBUTES`. It also
//! reads `OTEL_EXPORTER_OTLP_HEADERS` itself, and drops what it cannot read there, which is a fault here.

use std::{cell::RefCell, ops::RangeInclusive, time::Duration};

use http::{HeaderName, HeaderValue, Uri, uri::Scheme};
use opentelemetry_sdk::trace::Sampler;

use super::{authorities, faults::Fault};
use crate::{
    domain::percent_decoded,
    telemetry::{TraceBatchSettings, TraceProtocol, TraceSettings},
};

const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";

/// Time-out of one export if no variable sets it: the default of OTLP's exporters, in milliseconds.
const TIMEOUT_DEFAULT: u64 = 10_000;
/// Longest time-out and delay: an hour, in milliseconds. A greater number is probably given in the wrong
/// unit, and is a fault.
const TIME_MAX: u64 = 3_600_000;
/// Shortest time between two exports, in milliseconds. With less, the process would do nothing but export.
const DELAY_MIN: u64 = 10;
/// Maximum number of spans in the queue. The memory of the queue is allocated at the start: about 50 MB for
/// this number.
const QUEUE_MAX: u64 = 100_000;

/// The settings of traces, or `None` when nothing is traced. `variable` gives the value of a variable, and
/// `None` for an empty one. Of two variables with the same meaning, the one for traces alone counts.
///
/// # Errors
///
/// Every fault, if traces are wanted at all. No fault repeats the value: an endpoint may hold a password.
pub fn read<'a>(
    variable: impl Fn(&'static str) -> Result<Option<&'a str>, Fault>,
) -> Result<Option<TraceSettings>, Vec<Fault>> {
    let reader = Reader { variable, faults: RefCell::default() };
    let off = reader.value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || reader.value(EXPORTER) == Some("none");
    let Some((name, text)) = reader.first(ENDPOINT).filter(|_| !off) else { return reader.unless_any(None) };
    let protocol = match reader.first(PROTOCOL) {
        None | Some((_, "grpc")) => TraceProtocol::Grpc,
        Some((_, "http/protobuf")) => TraceProtocol::HttpProtobuf,
        Some((name, _)) => {
            reader.note(name, "neither grpc nor http/protobuf");
            TraceProtocol::Grpc
        }
    };
    let endpoint = endpoint(text).map(|uri| match (protocol, name == ENDPOINT[0]) {
        (TraceProtocol::HttpProtobuf, false) => below(&uri, "v1/traces"),
        (TraceProtocol::HttpProtobuf, true) | (TraceProtocol::Grpc, _) => Some(uri),
    });
    let endpoint = endpoint.flatten();
    match &endpoint {
        None => reader.note(name, "not an http or https URL such as http://127.0.0.1:4317"),
        Some(endpoint) if endpoint.scheme() == Some(&Scheme::HTTPS) => {
            if let Some(fault) = authorities::missing("https") {
                reader.note(name, &fault);
            }
        }
        Some(_) => {}
    }
    if reader.value(EXPORTER).is_some_and(|value| value != "otlp") {
        reader.note(EXPORTER, "neither otlp nor none");
    }
    if let Some((name, _)) = reader.first(COMPRESSION).filter(|(_, value)| *value != "none") {
        reader.note(name, "not none; spans are sent without compression");
    }
    if let Some((name, _)) = reader.first(HEADERS).filter(|(_, text)| !are_headers(text)) {
        reader.note(name, "not headers such as name=value,other=value");
    }
    let timeout =
        reader.number(reader.first(TIMEOUT), 1..=TIME_MAX, "milliseconds").unwrap_or(TIMEOUT_DEFAULT);
    let sampler = sampler(&reader);
    let batch = batch(&reader);
    let service_name = reader.value("OTEL_SERVICE_NAME").map(str::to_owned);
    let timeout = Duration::from_millis(timeout);
    let settings =
        endpoint.map(|endpoint| TraceSettings { endpoint, protocol, timeout, sampler, batch, service_name });
    reader.unless_any(settings)
}

/// Which calls are traced. Without a variable, a call is traced if its caller traces it.
fn sampler<'a>(reader: &Reader<impl Fn(&'static str) -> Result<Option<&'a str>, Fault>>) -> Sampler {
    const SAMPLERS: &str = "not always_on, always_off, traceidratio, nor one of these after parentbased_";
    let named = reader.value(SAMPLER).unwrap_or("parentbased_always_on");
    let root = named.strip_prefix("parentbased_").unwrap_or(named);
    let sampler = match root {
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => {
            let ratio = reader.value(RATIO).map(|text| text.parse().ok());
            let ratio = ratio.map(|ratio| ratio.filter(|ratio: &f64| (0.0..=1.0).contains(ratio)));
            if ratio == Some(None) {
                reader.note(RATIO, "not a number from 0 to 1");
            }
            Sampler::TraceIdRatioBased(ratio.flatten().unwrap_or(1.0))
        }
        "always_on" => Sampler::AlwaysOn,
        _ => {
            reader.note(SAMPLER, SAMPLERS);
            Sampler::AlwaysOn
        }
    };
    if root == named { sampler } else { Sampler::ParentBased(Box::new(sampler)) }
}

/// How spans are collected. A delay of 0 would keep a core busy, and a queue of 0 would drop every span
/// silently.
fn batch<'a>(reader: &Reader<impl Fn(&'static str) -> Result<Option<&'a str>, Fault>>) -> TraceBatchSettings {
    let given = |name| Some((name, reader.value(name)?));
    let count = |spans: u64| usize::try_from(spans).unwrap_or(usize::MAX);
    let default = TraceBatchSettings::default();
    let delay = reader.number(given(DELAY), DELAY_MIN..=TIME_MAX, "milliseconds");
    let queue = reader.number(given(QUEUE), 1..=QUEUE_MAX, "spans").map_or(default.queue, count);
    let size =
        reader.number(given(BATCH), 1..=queue as u64, "spans, which are as many as the queue may hold");
    // The SDK reads these itself and ignores a value that it cannot read.
    for name in ["OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_CONCURRENT_EXPORTS"] {
        let _ = reader.number(given(name), 1..=TIME_MAX, "milliseconds or exports");
    }
    TraceBatchSettings {
        delay: delay.map_or(default.delay, Duration::from_millis),
        queue,
        size: size.map_or(default.size.min(queue), count),
    }
}

/// Reads variables and collects their faults.
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

    /// The number in the text that is given. A number outside of `range` is a fault that names the unit.
    fn number(
        &self,
        given: Option<(&'static str, &'a str)>,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let (name, text) = given?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.note(name, &format!("not a number from {} to {}, of {unit}", range.start(), range.end()));
        }
        number
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

/// Whether the SDK sends every header of the list. It leaves out those that it cannot read, without a word.
fn are_headers(text: &str) -> bool {
    let mut entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.all(|entry| {
        entry.split_once('=').is_some_and(|(name, value)| {
            let value = value.trim();
            let decoded = percent_decoded(value).unwrap_or_else(|| value.to_owned());
            let is_valid =
                HeaderName::try_from(name.trim()).is_ok() && HeaderValue::from_str(&decoded).is_ok();
            is_valid && !value.is_empty()
        })
    })
}

/// `base` with `path` appended, as OTLP over HTTP does with the address of a collector for all signals.
fn below(base: &Uri, path: &str) -> Option<Uri> {
    let mut parts = base.clone().into_parts();
    let whole = format!("{}/{path}", base.path().trim_end_matches('/'));
    parts.path_and_query = Some(whole.parse().ok()?);
    Uri::from_parts(parts).ok()
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
        // Without a collector, the other variables are not checked.
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
        for headers in
            ["x-a=b", "x-a=b, X-C = d%20e==,", "authorization=Bearer%20x", "x-a=100%", "x-a=ü", ","]
        {
            assert!(read_these(&[COLLECTOR, ("OTEL_EXPORTER_OTLP_HEADERS", headers)]).is_ok(), "{headers}");
        }
        // Of two variables, the one for traces alone is used.
        let [traces, all] = HEADERS;
        assert!(read_these(&[COLLECTOR, (traces, "x-a=b"), (all, "x")]).is_ok());
    }

    #[test]
    fn a_collectors_one_address_has_a_path_for_traces_over_http() {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let [all, traces] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        for (variables, endpoint) in [
            (&[(all, "http://c:4318"), http][..], "http://c:4318/v1/traces"),
            (&[(all, "http://c:4318/"), http], "http://c:4318/v1/traces"),
            (&[(all, "https://c/otlp/"), http], "https://c/otlp/v1/traces"),
            (&[(traces, "http://c:4318/custom"), http], "http://c:4318/custom"),
            (&[(traces, "http://c:4318"), http], "http://c:4318/"),
            (&[(all, "http://c:4317")], "http://c:4317/"),
            (
                &[(all, "http://c:4317"), http, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")],
                "http://c:4317/",
            ),
        ] {
            assert_eq!(read_these(variables), Ok(Some(endpoint.to_owned())), "{variables:?}");
        }
    }

    #[test]
    fn a_batch_is_never_larger_than_its_queue() {
        for (variables, queue, size) in [
            (&[][..], 2_048, 512),
            (&[(QUEUE, "100")], 100, 100),
            (&[(QUEUE, "4096"), (BATCH, "4096")], 4_096, 4_096),
        ] {
            let value =
                |name: &str| Ok(variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value));
            let reader = Reader { variable: value, faults: RefCell::default() };
            let expected = TraceBatchSettings { delay: Duration::from_secs(5), queue, size };
            assert_eq!(batch(&reader), expected, "{variables:?}");
            assert!(reader.faults.into_inner().is_empty(), "{variables:?}");
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
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "9"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
            ("OTEL_BSP_SCHEDULE_DELAY", "86400000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100001"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2049"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "0"),
            ("OTEL_BSP_MAX_CONCURRENT_EXPORTS", "0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "99999999999"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-a: b"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-a=b,x-c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-a="),
            ("OTEL_EXPORTER_OTLP_HEADERS", "=b"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x a=b"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "\"x-a=b\""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Basic eHl6=="),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-ü=b"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-a=b%0Ac"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-a=%7f"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-a"),
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
