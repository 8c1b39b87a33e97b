//! [`Exporter`]: sends spans by OTLP over gRPC or HTTP, and logs when the collector does not accept them.

use std::time::Duration;

use http::uri::Scheme;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::ClientTlsConfig;
use tracing::{info, warn};

use super::{Protocol, Settings, http::Client};
use crate::telemetry::chain;

/// The time between two warnings. A collector that is down often stays down for a while, and spans are sent
/// every few seconds.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Sends spans. Of the collector's answer, only the code is logged.
#[derive(Debug)]
pub struct Exporter {
    otlp: OtlpExporter,
    /// When the last warning was logged; `None` while the collector accepts spans.
    warned: Mutex<Option<Instant>>,
}

impl Exporter {
    /// Prepares to send as `settings` say, within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the endpoint uses TLS and the machine's certificate store cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let Settings { endpoint, protocol, timeout, .. } = settings;
        let otlp = match protocol {
            Protocol::Grpc => {
                let mut otlp = OtlpExporter::builder().with_tonic();
                if endpoint.scheme() == Some(&Scheme::HTTPS) {
                    // Without this line, no certificate authority would be trusted.
                    otlp = otlp.with_tls_config(ClientTlsConfig::new().with_native_roots());
                }
                otlp.with_endpoint(endpoint.to_string()).with_timeout(*timeout).build()
            }
            Protocol::HttpProtobuf => {
                let client = Client::new(endpoint, *timeout).map_err(|error| chain(&error))?;
                let otlp = OtlpExporter::builder().with_http().with_http_client(client);
                let otlp = otlp.with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
                otlp.with_endpoint(endpoint.to_string()).with_timeout(*timeout).build()
            }
        };
        let otlp = otlp.map_err(|error| chain(&error))?;
        Ok(Self { otlp, warned: Mutex::default() })
    }

    fn log(&self, spans: usize, result: &OTelSdkResult) {
        let mut warned = self.warned.lock();
        match result {
            Ok(()) if warned.take().is_some() => info!("the collector accepts traces again"),
            Ok(()) => {}
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                    *warned = Some(Instant::now());
                    warn!(error = chain(error), spans, "the collector did not accept traces; they are lost");
                }
            }
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.otlp.export(batch).await;
        self.log(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
