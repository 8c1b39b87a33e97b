//! Encrypted connections: who gets in, and certificates that are exchanged while the service runs.

use std::{fs, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use hypersender_grpc::grpc::contact::contact_service_client::ContactServiceClient;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Error},
};
use tower::service_fn;

use super::support::{Authority, CHAT, Identity, Launch, Service, about};

/// What the service is started with, as files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn identity(&self, identity: &Identity) -> [String; 2] {
        [self.write("cert.pem", &identity.cert), self.write("key.pem", &identity.key)]
    }
}

async fn serve(flags: &[&str]) -> Service {
    Launch::serve().flags(&["--sandbox"]).flags(flags).start().await
}

/// A client that trusts `authority`, shows `identity`, and offers `protocols`.
async fn connect(
    service: &Service,
    authority: &Authority,
    identity: Option<&Identity>,
    protocols: &[&str],
) -> Result<Channel, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.der();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let (connector, address) = (TlsConnector::from(Arc::new(config)), service.address());
    let dial = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, TcpStream::connect(address).await?).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(dial).await
}

async fn ask(channel: Channel) -> Result<(), Status> {
    ContactServiceClient::new(channel).get_profile_picture(about(CHAT)).await.map(drop)
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_gets_in_and_plain_text_does_not() {
    let (files, authority) = (Files::new(), Authority::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let service = serve(&["--tls-cert", &cert, "--tls-key", &key]).await;

    ask(connect(&service, &authority, None, &["h2"]).await.unwrap()).await.unwrap();
    assert!(connect(&service, &Authority::new(), None, &["h2"]).await.is_err(), "another authority");
    assert!(connect(&service, &authority, None, &["http/1.1"]).await.is_err(), "another protocol");
    let plain = Endpoint::from_shared(format!("http://{}", service.address())).unwrap().connect().await;
    assert!(plain.is_err() || ask(plain.unwrap()).await.is_err(), "plain text");
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_get_in() {
    let (files, authority) = (Files::new(), Authority::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let clients = Authority::new();
    let client_ca = files.write("ca.pem", &clients.pem());
    let service = serve(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &client_ca]).await;

    for (identity, let_in) in [
        (Some(clients.identity("crm.internal")), true),
        (Some(authority.identity("crm.internal")), false),
        (None, false),
    ] {
        // TLS 1.3 tells a client that it is turned away only once it asks.
        let asked = match connect(&service, &authority, identity.as_ref(), &["h2"]).await {
            Ok(channel) => ask(channel).await.is_ok(),
            Err(_) => false,
        };
        assert_eq!(asked, let_in);
    }
}

#[tokio::test]
async fn a_hangup_exchanges_certificates_and_open_connections_stay() {
    let (files, old, new) = (Files::new(), Authority::new(), Authority::new());
    let [cert, key] = files.identity(&old.identity("localhost"));
    let service = serve(&["--tls-cert", &cert, "--tls-key", &key]).await;
    let open = connect(&service, &old, None, &["h2"]).await.unwrap();

    files.identity(&new.identity("localhost"));
    service.signalled("HUP", "read the certificates again").await;
    ask(connect(&service, &new, None, &["h2"]).await.unwrap()).await.unwrap();
    ask(open).await.unwrap();

    fs::write(Path::new(&cert), "no certificate").unwrap();
    service.signalled("HUP", "kept the certificates that were read before").await;
    ask(connect(&service, &new, None, &["h2"]).await.unwrap()).await.unwrap();
}
