//! [`Tls`]: encryption of connections, and the names in the certificate of the peer.
//!
//! Certificates are read again on demand. Open connections keep the ones that they began with.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig,
    pki_types::CertificateDer,
    server::{WantsServerCert, WebPkiClientVerifier},
};
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
}

/// The peers that a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peers {
    /// Clients of gRPC, which speak HTTP/2, and show a certificate if an authority for it is given.
    Grpc,
    /// Browsers, which speak HTTP/2 or HTTP/1.1, and are never asked for a certificate.
    Browsers,
}

/// The encryption for each kind of peer, from the same files.
struct Configs {
    grpc: Arc<ServerConfig>,
    browsers: Arc<ServerConfig>,
    /// The earliest end of the certificates in the chain.
    not_after: SystemTime,
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

/// Encrypts connections. The certificates can be replaced while the server runs. Clones, and those for
/// browsers, share the files that were read.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<TlsSettings>,
    configs: Arc<RwLock<Configs>>,
    peers: Peers,
}

impl Tls {
    /// Reads the certificates, for a port of gRPC.
    ///
    /// # Errors
    ///
    /// The fault of a file.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsFault> {
        let configs = Arc::new(RwLock::new(read(&settings)?));
        Ok(Self { settings: Arc::new(settings), configs, peers: Peers::Grpc })
    }

    /// The same certificates for a port of browsers. They are not read again here, so this cannot fail.
    #[must_use]
    pub fn for_browsers(&self) -> Self {
        Self { peers: Peers::Browsers, ..self.clone() }
    }

    /// Reads the certificates again, for connections from now on, on the ports of gRPC and of browsers alike.
    ///
    /// # Errors
    ///
    /// The fault of a file. The certificates that were read before stay in use then.
    pub fn reload(&self) -> Result<(), TlsFault> {
        let configs = read(&self.settings)?;
        *self.configs.write() = configs;
        Ok(())
    }

    /// The time from which clients refuse the certificate: the earliest end in the chain that was read last.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.configs.read().not_after
    }

    /// Whether every client of gRPC must show a certificate.
    #[must_use]
    pub fn requires_client_certificates(&self) -> bool {
        self.settings.client_ca.is_some()
    }

    /// The TLS handshake.
    ///
    /// # Errors
    ///
    /// When it fails, for example because the peer shows no certificate where one is required.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<PeerNames>)> {
        let config = self.config();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let names = certificates.and_then(<[_]>::first).and_then(names);
        Ok((stream, names))
    }

    fn config(&self) -> Arc<ServerConfig> {
        let configs = self.configs.read();
        match self.peers {
            Peers::Grpc => configs.grpc.clone(),
            Peers::Browsers => configs.browsers.clone(),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Reads each file once.
fn read(settings: &TlsSettings) -> Result<Configs, TlsFault> {
    let TlsSettings { cert, key, client_ca } = settings;
    let of_cert = |error: &dyn fmt::Display| TlsFault::new(TlsFile::Cert, cert, error);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| of_cert(&error))?;
    let browsers = builder.clone().with_no_client_auth();
    let grpc = match client_ca {
        None => browsers.clone(),
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
    let private_der = private.private_key().map_err(|error| TlsFault::new(TlsFile::Key, key, &error))?;
    let chain_der = chain.certificates().map_err(|error| of_cert(&error))?;
    if !chain.is_of(&private).map_err(|error| of_cert(&error))? {
        return Err(of_cert(&format_args!("not the certificate of the key in {}", key.display())));
    }
    let finished = |builder: ConfigBuilder<ServerConfig, WantsServerCert>, protocols: &[&[u8]]| {
        let mut config = builder
            .with_single_cert(chain_der.clone(), private_der.clone_key())
            .map_err(|error| of_cert(&error))?;
        // The preferred one is the first.
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    };
    Ok(Configs {
        grpc: finished(grpc, &[b"h2"])?,
        browsers: finished(browsers, &[b"h2", b"http/1.1"])?,
        not_after: chain_der.iter().filter_map(not_after).min().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

/// The end of a certificate. One before 1970 counts as that year.
fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
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
