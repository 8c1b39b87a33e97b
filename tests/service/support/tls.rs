//! [`Authority`]: a certificate authority that signs for a scripted Hypersender, for the service and for its
//! callers.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

use super::Service;

/// A certificate and its key, in PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Identity {
    /// The certificate chain and the key, in the types of rustls.
    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>();
        (chain.unwrap(), PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }
}

/// A certificate authority that one test makes and no other test knows.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The certificate of the authority as a file for `SSL_CERT_FILE`. A process with it trusts no other
    /// authority.
    pub fn file(&self) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.pem()).unwrap();
        file
    }

    /// The certificate of the authority in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for the host `name`.
    pub fn identity(&self, name: &str) -> Identity {
        self.sign(&CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// A certificate for the host `name` that ends when the year begins.
    pub fn identity_until(&self, name: &str, year: i32) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    /// A certificate for a caller with these alternative names and this common name.
    pub fn caller(&self, names: &[SanType], common_name: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// The configuration of a server with a certificate for the host `name`, valid or expired.
    pub fn server(&self, name: &str, expired: bool) -> ServerConfig {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let (chain, key) = self.sign(&params).der();
        ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }
}

/// Connects to a service. The client trusts `authority`, presents `identity` if there is one, and offers
/// `protocols`.
pub async fn connect(
    service: &Service,
    authority: &Authority,
    identity: Option<&Identity>,
    protocols: &[&str],
) -> Result<Channel, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity.map(Identity::der) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
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
