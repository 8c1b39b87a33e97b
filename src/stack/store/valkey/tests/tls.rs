//! TLS to the server. The server of the tests has none, so a proxy ends it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{super::super::engine::Heard, *};

/// An authority in PEM, and a server's settings with a certificate that it has signed.
fn authority() -> (Vec<u8>, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    (authority.pem().into_bytes(), config.into())
}

/// A port with TLS in front of a server.
async fn with_tls(config: Arc<ServerConfig>, server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn the_certificate_of_the_server_is_checked() {
    let mut server = Server::start();
    let (ca, config) = authority();
    let port = with_tls(config, server.port()).await;
    let host = |name: &str| vec![(name.to_owned(), port)];
    let trusting = Settings { tls: true, ca: Some(ca), hosts: host("localhost"), ..settings(0) };
    let valkey = Valkey::new(&trusting).unwrap();
    begin(&valkey, &names("a"), 1000).await;
    let mut heard = valkey.subscribe();
    assert_eq!(heard.recv().await, Some(Heard::Subscribed));

    let (other_ca, _) = authority();
    let untrusted = "the certificate of the server is not trusted";
    let rows = [
        ("an unknown authority", Settings { ca: Some(other_ca), ..trusting.clone() }, untrusted),
        ("that of the machine", Settings { ca: None, ..trusting.clone() }, untrusted),
        ("another name", Settings { hosts: host("127.0.0.1"), ..trusting.clone() }, untrusted),
        ("no TLS on our side", Settings { tls: false, ..trusting.clone() }, "the reply is broken"),
    ];
    for (case, settings, expected) in rows {
        let failed = Valkey::new(&settings).unwrap().probe().await.unwrap_err();
        assert_eq!(failed.cause, expected, "{case}");
    }

    server.restart();
    valkey.probe().await.expect("the first one after a restart");
}
