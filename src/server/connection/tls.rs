//! [`Tls`]: encryption of connections, and the names in the certificate of the peer.
//!
//! Certificates are read again on demand. Open connections keep the ones that they began with.

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

use crate::{domain::PeerNames, server::pem::Pem};

/// The files of certificates and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificate chain of the server, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authorities that sign client certificates, PEM. If given, every client must show a certificate.
    pub client_ca: Option<PathBuf>,
    /// The protocols that are offered to clients.
    pub protocols: TlsProtocols,
}

/// The protocols that a server offers in the handshake (ALPN), the preferred one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsProtocols {
    /// HTTP/2, for gRPC.
    #[default]
    Http2,
    /// HTTP/2 and HTTP/1.1, for browsers.
    Http2AndHttp1,
}

impl TlsProtocols {
    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2 => vec![b"h2".to_vec()],
            Self::Http2AndHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// One of the files that [`TlsSettings`] name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// [`TlsSettings::cert`].
    Cert,
    /// [`TlsSettings::key`].
    Key,
    /// [`TlsSettings::client_ca`].
    ClientCa,
}

/// A fault in a certificate file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// The file.
    pub file: TlsFile,
    /// The path of the file and its fault, without any of its content.
    pub text: String,
}

impl TlsFault {
    fn new(file: TlsFile, path: &Path, error: &dyn fmt::Display) -> Self {
        Self { file, text: format!("{}: {error}", path.display()) }
    }
}

/// Encrypts connections. The certificates can be replaced while the server runs.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<TlsSettings>,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// The fault of a file.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsFault> {
        let config = RwLock::new(Arc::new(read(&settings)?));
        Ok(Self { settings: Arc::new(settings), config: Arc::new(config) })
    }

    /// Reads the certificates again, for connections from now on.
    ///
    /// # Errors
    ///
    /// The fault of a file. The certificates that were read before stay in use then.
    pub fn reload(&self) -> Result<(), TlsFault> {
        let config = Arc::new(read(&self.settings)?);
        *self.config.write() = config;
        Ok(())
    }

    /// The TLS handshake.
    ///
    /// # Errors
    ///
    /// When it fails, for example because the peer shows no certificate where one is required.
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

fn read(settings: &TlsSettings) -> Result<ServerConfig, TlsFault> {
    let TlsSettings { cert, key, client_ca, protocols } = settings;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFault::new(TlsFile::Cert, cert, &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let fault = |error: &dyn fmt::Display| TlsFault::new(TlsFile::ClientCa, path, error);
            let mut roots = RootCertStore::empty();
            let certificates = pem(TlsFile::ClientCa, path)?.certificates();
            for certificate in certificates.map_err(|error| fault(&error))? {
                roots.add(certificate).map_err(|error| fault(&format_args!("no certificate ({error})")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| fault(&error))?)
        }
    };
    let chain = pem(TlsFile::Cert, cert)?;
    let private = pem(TlsFile::Key, key)?;
    let of_cert = |error: String| TlsFault::new(TlsFile::Cert, cert, &error);
    let private_der = private.private_key().map_err(|error| TlsFault::new(TlsFile::Key, key, &error))?;
    let chain_der = chain.certificates().map_err(of_cert)?;
    if !chain.is_of(&private).map_err(of_cert)? {
        let text = format!("not the certificate of the key in {}", key.display());
        return Err(TlsFault::new(TlsFile::Cert, cert, &text));
    }
    let mut config = builder
        .with_single_cert(chain_der, private_der)
        .map_err(|error| TlsFault::new(TlsFile::Cert, cert, &error))?;
    config.alpn_protocols = protocols.names();
    Ok(config)
}

fn pem(file: TlsFile, path: &Path) -> Result<Pem, TlsFault> {
    Pem::read(path).map_err(|error| TlsFault::new(file, path, &error))
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
