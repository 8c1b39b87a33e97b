//! [`End`]: the time at which something ends, in Unix seconds: the drain, or the certificate of the server.

use std::time::SystemTime;

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// The time at which something ends. Clones share the value.
#[derive(Clone, Debug)]
pub struct End(Gauge);

impl End {
    /// Registers the end of the drain, which is zero while the process does not drain.
    pub(super) fn of_drain(registry: &mut Registry) -> Self {
        Self::registered(
            registry,
            "hypersender_drain_deadline_timestamp_seconds",
            "Unix time at which the calls that are left in a drain are cut; 0 while the process does not drain",
        )
    }

    /// Registers the end of the certificate.
    pub(super) fn of_certificate(registry: &mut Registry) -> Self {
        Self::registered(
            registry,
            "hypersender_tls_certificate_not_after_timestamp_seconds",
            "Unix time at which the certificate chain of the server ends: the first end of all certificates in it",
        )
    }

    fn registered(registry: &mut Registry, name: &str, help: &str) -> Self {
        let gauge = Gauge::default();
        registry.register(name, help, gauge.clone());
        Self(gauge)
    }

    /// Sets the time. One before 1970 counts as that year.
    pub fn set(&self, end: SystemTime) {
        let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}
