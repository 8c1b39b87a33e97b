//! [`Tls`]: encryption of connections, and who the peer is by its certificate.
//!
//! Certificates are read again on demand; connections that are open keep what they began with.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use rustls::{RootCertStore, ServerConfig, pki_types::CertificateDer, server::WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::pem::Pem;

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Certificate chain of the server, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authorities that sign client certificates, PEM; with them every client must show one.
    pub client_ca: Option<PathBuf>,
}

/// The names in a client certificate: its DNS and URI names, or its common name when it has neither.
///
/// An extension of each request that came over a connection whose client showed a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNames(pub Arc<[String]>);

/// What is wrong with a file of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field of [`Settings`] that names the file.
    pub setting: &'static str,
    /// What is wrong, and with which file. Nothing of the file's content.
    pub text: String,
}

impl Fault {
    fn new(setting: &'static str, path: &Path, error: &dyn fmt::Display) -> Self {
        Self { setting, text: format!("{}: {error}", path.display()) }
    }
}

/// Encrypts connections with certificates that can be exchanged while it runs.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<Settings>,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn new(settings: Settings) -> Result<Self, Fault> {
        let config = RwLock::new(Arc::new(read(&settings)?));
        Ok(Self { settings: Arc::new(settings), config: Arc::new(config) })
    }

    /// Reads the certificates again, for connections from now on.
    ///
    /// # Errors
    ///
    /// What is wrong with which file; those that were read before then stay in use.
    pub fn reload(&self) -> Result<(), Fault> {
        let config = Arc::new(read(&self.settings)?);
        *self.config.write() = config;
        Ok(())
    }

    /// Shakes hands.
    ///
    /// # Errors
    ///
    /// When the peer does not, or shows no certificate that is asked for.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<PeerNames>)> {
        let config = self.config.read().clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let names = certificates.and_then(<[_]>::first).and_then(names);
        Ok((stream, names))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn read(settings: &Settings) -> Result<ServerConfig, Fault> {
    let Settings { cert, key, client_ca } = settings;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new("cert", cert, &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let fault = |error: &dyn fmt::Display| Fault::new("client_ca", path, error);
            let mut roots = RootCertStore::empty();
            let certificates = pem("client_ca", path)?.certificates();
            for certificate in certificates.map_err(|error| fault(&error))? {
                roots.add(certificate).map_err(|error| fault(&format_args!("no certificate ({error})")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| fault(&error))?)
        }
    };
    let chain = pem("cert", cert)?;
    let private = pem("key", key)?;
    let of_cert = |error: String| Fault::new("cert", cert, &error);
    let private_der = private.private_key().map_err(|error| Fault::new("key", key, &error))?;
    let chain_der = chain.certificates().map_err(of_cert)?;
    if !chain.is_of(&private).map_err(of_cert)? {
        let text = format!("not the certificate of the key in {}", key.display());
        return Err(Fault::new("cert", cert, &text));
    }
    let mut config =
        builder.with_single_cert(chain_der, private_der).map_err(|error| Fault::new("cert", cert, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn pem(setting: &'static str, path: &Path) -> Result<Pem, Fault> {
    Pem::read(path).map_err(|error| Fault::new(setting, path, &error))
}

fn names(certificate: &CertificateDer<'_>) -> Option<PeerNames> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|extension| extension.value.general_names.iter());
    let mut names: Vec<String> = alternatives
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().next()?;
        names.push(common.as_str().ok()?.to_owned());
    }
    Some(PeerNames(names.into()))
}
