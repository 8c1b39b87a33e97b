//! [`Service`]: the built binary, in front of a scripted Hypersender, and clients for it.

use std::net::SocketAddr;

use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use hypersender_grpc::grpc::contact::contact_service_client::ContactServiceClient;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, Uri},
};
use tonic_health::pb::health_client::HealthClient;

use super::{INSTANCE, TOKEN, Upstream};
use crate::process::{Launch, Process};

/// The generated client.
pub type Client = ContactServiceClient<Channel>;
/// The generated client over a transport that leaves every time-out to the service; tonic's own ends a call in
/// CANCELLED once its time is up.
pub type BareClient = ContactServiceClient<HyperClient<HttpConnector, Body>>;

/// A running service.
pub type Service = Process;

impl Service {
    /// The service as an operator would start it, in front of `upstream`.
    pub fn asking(upstream: &Upstream) -> Launch {
        Self::asking_at(&upstream.base_url())
    }

    /// The same, wherever upstream is or is not.
    pub fn asking_at(base_url: &str) -> Launch {
        Launch::serve()
            .variable("HYPERSENDER_WHATSAPP_API_KEY", TOKEN)
            .variable("HYPERSENDER_WHATSAPP_INSTANCE_ID", INSTANCE)
            .variable("HYPERSENDER_WHATSAPP_BASE_URL", base_url)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn uri(&self) -> Uri {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        Endpoint::from(self.uri()).connect().await.unwrap()
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> Client {
        ContactServiceClient::new(self.channel().await)
    }

    /// A client whose own clock never ends a call.
    pub fn bare_client(&self) -> BareClient {
        let transport = HyperClient::builder(TokioExecutor::new()).http2_only(true).build_http();
        ContactServiceClient::with_origin(transport, self.uri())
    }

    /// A health client on a connection of its own.
    pub async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel().await)
    }
}
