//! [`Service`]: the built binary in front of its sandbox or of a scripted Hypersender, and clients for it.

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use hypersender_grpc::grpc::contact::{
    GetProfilePictureRequest, GetProfilePictureResponse, contact_service_client::ContactServiceClient,
};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use super::{
    CHAT, Fault, INSTANCE, Launch, Refusal, TOKEN, Upstream, about, patiently, process::Process, refusal,
};

/// The generated client.
pub type Client = ContactServiceClient<Channel>;
/// The generated client over a transport without time-outs. The transport of tonic ends a call with CANCELLED
/// when its time is up, so that the status of the service would not be seen.
pub type BareClient = ContactServiceClient<HyperClient<HttpConnector, Body>>;

/// A running service.
pub type Service = Process;

impl Service {
    /// The command that starts a service in front of `upstream`.
    pub fn asking(upstream: &Upstream) -> Launch {
        Self::asking_at(&upstream.base_url())
    }

    /// The command that starts a service in front of a URL, where no server needs to be.
    pub fn asking_at(base_url: &str) -> Launch {
        Launch::serve()
            .variable("HYPERSENDER_WHATSAPP_API_KEY", TOKEN)
            .variable("HYPERSENDER_WHATSAPP_INSTANCE_ID", INSTANCE)
            .variable("HYPERSENDER_WHATSAPP_BASE_URL", base_url)
    }

    /// The command that starts a service in front of its sandbox.
    pub fn sandboxed() -> Launch {
        Launch::serve().flags(&["--sandbox"])
    }

    /// Starts a service in front of its sandbox.
    pub async fn start(flags: &[&str]) -> Self {
        Self::sandboxed().flags(flags).start().await
    }

    /// The address at which a client of this machine reaches the service.
    pub fn address(&self) -> SocketAddr {
        match self.listening {
            SocketAddr::V4(address) if address.ip().is_unspecified() => {
                ([127, 0, 0, 1], address.port()).into()
            }
            address => address,
        }
    }

    fn uri(&self) -> Uri {
        format!("http://{}", self.address()).parse().unwrap()
    }

    /// A new connection.
    pub async fn channel(&self) -> Channel {
        Endpoint::from(self.uri()).connect().await.unwrap()
    }

    /// A client on a new connection.
    pub async fn client(&self) -> Client {
        ContactServiceClient::new(self.channel().await)
    }

    /// A client that never ends a call because of time.
    pub fn bare_client(&self) -> BareClient {
        let transport = HyperClient::builder(TokioExecutor::new()).http2_only(true).build_http();
        ContactServiceClient::with_origin(transport, self.uri())
    }

    /// A health client on a new connection.
    pub async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel().await)
    }

    /// Makes a call with these entries of metadata, on a new connection.
    pub async fn ask(
        &self,
        request: GetProfilePictureRequest,
        metadata: &[(&'static str, &str)],
    ) -> Result<GetProfilePictureResponse, Status> {
        let mut request = Request::new(request);
        for (name, value) in metadata {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        let answer = patiently("an answer", self.client().await.get_profile_picture(request)).await;
        answer.map(Response::into_inner)
    }

    /// Makes a call with these entries of `authorization`. A failure must be a refusal because of the caller.
    pub async fn ask_as(
        &self,
        authorization: &[&str],
        request: GetProfilePictureRequest,
    ) -> Result<GetProfilePictureResponse, Refusal> {
        let metadata: Vec<_> = authorization.iter().map(|entry| ("authorization", *entry)).collect();
        self.ask(request, &metadata).await.map_err(|status| refusal(&status))
    }

    /// Makes a call for the picture of `chat_id` and returns its code.
    pub async fn look_up(&self, chat_id: &str) -> Code {
        let answer = self.ask(about(chat_id), &[]).await;
        answer.map_or_else(|status| Fault::from(&status).code, |_| Code::Ok)
    }

    /// Makes a call of the method at `path`, with the message of `GetProfilePicture`.
    pub async fn call(&self, path: &'static str) -> Result<GetProfilePictureResponse, Status> {
        let mut client = Grpc::new(self.channel().await);
        patiently("a ready channel", client.ready()).await.unwrap();
        let codec = ProstCodec::<GetProfilePictureRequest, GetProfilePictureResponse>::default();
        let path = PathAndQuery::from_static(path);
        client.unary(Request::new(about(CHAT)), path, codec).await.map(Response::into_inner)
    }
}
