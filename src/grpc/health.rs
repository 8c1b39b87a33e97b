//! [`Health`]: `grpc.health.v1`, for this process alone.
//!
//! Trouble upstream never changes it: every replica would leave the mesh at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
    server::{HealthReporter, health_reporter},
};

use super::{service::SERVICE, unary::MESSAGE_BYTES_MAX};

/// Sets what health checks are told.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: [&'static str; 2],
    serving: Arc<AtomicBool>,
}

impl Health {
    /// SERVING for the whole server and for the contact service, beside the service that tells it.
    pub async fn serving() -> (Self, HealthServer<impl HealthApi>) {
        let (reporter, service) = health_reporter();
        let health = Self { reporter, services: ["", SERVICE], serving: Arc::default() };
        health.set(ServingStatus::Serving).await;
        (health, service.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Whether health checks are told SERVING.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
    }

    /// NOT_SERVING, so that load balancers look elsewhere; watchers are told.
    pub async fn leave(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends every watch: left open, they would hold up a drain for ever.
    pub async fn end_watches(&self) {
        for service in self.services {
            self.reporter.clone().clear_service_status(service).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        self.serving.store(status == ServingStatus::Serving, Relaxed);
        for service in self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
