//! [`Health`]: the service `grpc.health.v1`, for this process alone.
//!
//! Failures of Hypersender never change it, because every replica would then leave the mesh at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures_util::{
    Stream, StreamExt,
    future::ready,
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus as WireStatus,
        health_server::{Health as HealthApi, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

use super::{service::SERVICE, unary::MESSAGE_BYTES_MAX};

/// Sets the answer to health checks.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: [&'static str; 2],
    serving: Arc<AtomicBool>,
    watches_end: watch::Sender<bool>,
}

impl Health {
    /// Begins with SERVING for the whole server and for the contact service.
    pub async fn serving() -> Self {
        let (reporter, watches_end) = (HealthReporter::new(), watch::Sender::new(false));
        let health = Self { reporter, services: ["", SERVICE], serving: Arc::default(), watches_end };
        health.set(ServingStatus::Serving).await;
        health
    }

    /// The gRPC service that answers health checks with the status set here.
    #[must_use]
    pub fn service(&self) -> HealthServer<impl HealthApi + use<>> {
        HealthServer::new(self.api()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn api(&self) -> Api {
        let known = HealthService::from_health_reporter(self.reporter.clone());
        Api { known, watches_end: self.watches_end.subscribe() }
    }

    /// Whether health checks are answered with SERVING.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
    }

    /// Changes the answer to NOT_SERVING, for checks and watchers, so that load balancers choose other
    /// replicas.
    pub async fn leave(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends every watch. An open one would hold up the drain for ever.
    pub async fn end_watches(&self) {
        self.watches_end.send_replace(true);
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

/// tonic's health service, except for watches of unknown services: tonic refuses them, and the protocol keeps
/// them open.
struct Api {
    known: HealthService,
    watches_end: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl HealthApi for Api {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.known.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.known.watch(request).await;
        // A watch fails only for an unknown service.
        Ok(known.map_or_else(|_| Response::new(self.unknown().boxed()), |watch| watch.map(StreamExt::boxed)))
    }
}

impl Api {
    /// The watch of a service that is not served. Services never change while the process runs, so there is
    /// only one message to send, and names that callers invent are not kept.
    fn unknown(&self) -> impl Stream<Item = Result<HealthCheckResponse, Status>> + use<> {
        let mut watches_end = self.watches_end.clone();
        let unknown = HealthCheckResponse { status: WireStatus::ServiceUnknown.into() };
        let end = async move { watches_end.wait_for(|end| *end).await.is_ok() };
        stream::once(ready(Ok(unknown))).chain(stream::pending()).take_until(Box::pin(end))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_watch_stays_open_until_watches_end_whether_the_service_is_known_or_not() {
        let health = Health::serving().await;
        let api = health.api();
        for (service, serving, leaving) in [
            ("", WireStatus::Serving, Some(WireStatus::NotServing)),
            (SERVICE, WireStatus::Serving, Some(WireStatus::NotServing)),
            ("hypersender.contact.v1.NoService", WireStatus::ServiceUnknown, None),
        ] {
            health.set(ServingStatus::Serving).await;
            let request = Request::new(HealthCheckRequest { service: service.to_owned() });
            let mut watch = api.watch(request).await.unwrap().into_inner();
            let mut received = || watch.next().now_or_never().map(|next| next.map(|it| it.unwrap().status()));
            assert_eq!(received(), Some(Some(serving)), "{service:?}");
            assert_eq!(received(), None, "{service:?} has changed");
            health.leave().await;
            assert_eq!(received(), leaving.map(Some), "{service:?}");
            assert_eq!(received(), None, "{service:?} has ended");
        }
    }

    #[tokio::test]
    async fn the_watch_of_an_unknown_service_ends_with_the_others() {
        let health = Health::serving().await;
        let request = Request::new(HealthCheckRequest { service: "unknown".to_owned() });
        let mut watch = health.api().watch(request).await.unwrap().into_inner();
        assert!(watch.next().await.is_some());
        health.end_watches().await;
        assert!(watch.next().await.is_none());
    }
}
