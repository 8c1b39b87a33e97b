//! [`Collector`]: an OpenTelemetry collector that keeps all spans that it receives.

use std::net::SocketAddr;

use axum::{Router, http::HeaderMap, routing::post};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{self, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{Identity, patiently};

/// The exports so far, with their metadata.
type Received = Vec<(MetadataMap, ExportTraceServiceRequest)>;

pub struct Collector {
    address: SocketAddr,
    received: watch::Receiver<Received>,
}

struct Keep(watch::Sender<Received>);

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.0.send_modify(|received| received.push((metadata, message)));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::start_with(Server::builder()).await
    }

    /// A collector over TLS.
    pub async fn start_tls(identity: &Identity) -> Self {
        let identity = transport::Identity::from_pem(&identity.cert, &identity.key);
        let tls = ServerTlsConfig::new().identity(identity);
        Self::start_with(Server::builder().tls_config(tls).unwrap()).await
    }

    async fn start_with(mut server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = watch::channel(Received::new());
        let server = server.add_service(TraceServiceServer::new(Keep(sender)));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { address, received }
    }

    /// A collector over HTTP instead of gRPC, at this path only.
    pub async fn start_http(path: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = watch::channel(Received::new());
        let keep = move |headers: HeaderMap, body: Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let message = ExportTraceServiceRequest::decode(body).unwrap();
            sender.send_modify(|received| received.push((MetadataMap::from_headers(headers), message)));
            ExportTraceServiceResponse::default().encode_to_vec()
        };
        tokio::spawn(axum::serve(listener, Router::new().route(path, post(keep))).into_future());
        Self { address, received }
    }

    /// The endpoint, for the configuration of the service.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for `count` spans and returns them in the order in which they ended.
    pub async fn spans(&self, count: usize) -> Vec<Span> {
        let mut received = self.received.clone();
        let enough = received.wait_for(|received| spans(received).len() >= count);
        let spans = spans(&patiently("spans", enough).await.unwrap());
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// All exports so far.
    pub fn received(&self) -> Received {
        self.received.borrow().clone()
    }

    /// The resource attribute `key`, or an empty text.
    pub fn resource(&self, key: &str) -> String {
        let received = self.received.borrow();
        let resource = received[0].1.resource_spans[0].resource.as_ref();
        find(&resource.unwrap().attributes, key).unwrap_or_default()
    }
}

fn spans(received: &Received) -> Vec<Span> {
    let resources = received.iter().flat_map(|(_, message)| &message.resource_spans);
    let scopes = resources.flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// The attribute `key` of a span, as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    find(&span.attributes, key)
}

/// The names of all attributes of a span, sorted.
pub fn attributes(span: &Span) -> Vec<&str> {
    let mut names: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    names.sort_unstable();
    names
}

pub fn is_server(span: &Span) -> bool {
    span.kind() == SpanKind::Server
}

pub fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.as_ref()?))
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(whether)) => whether.to_string(),
        Some(Value::ArrayValue(array)) => array.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => panic!("{other:?}"),
    }
}
