//! [`Fetcher`]: the guarded download of an image. A link comes from outside, so it must not lead this machine
//! to a place that only this machine can reach (server-side request forgery).
//!
//! - Only https to hosts of a list, on the usual port, and origins that the operator names one by one.
//! - A name is resolved here, and only public addresses of it are connected to.
//! - No redirect is followed, no proxy is used, and neither cookies nor a `Referer` are sent.
//! - 5 s in all. The size is checked while the bytes arrive, and the type by the first of them.
//!
//! Not here: decoding of the image, and storing it.

mod addresses;
mod hosts;
mod kind;
mod resolver;

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Response};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use rustls_platform_verifier::BuilderVerifierExt;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::{
    hosts::Permission,
    resolver::{NoPublicAddress, PublicAddresses},
};
pub use self::{hosts::PictureHosts, kind::Kind};
use crate::telemetry::sources;

/// The time for one download, from the resolution of the name to the last byte.
const TIME_MAX: Duration = Duration::from_secs(5);
/// The time for one connection. A host that takes longer is down or far away, and the rest of the time for
/// the download is needed for the image.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of idle connections to a host. Each of them holds an open file, and without HTTP/2 a few
/// are enough for the images of a page.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// The time after which an idle connection is closed. The images of a page follow each other within seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const USER_AGENT: &str = concat!("hypersender-grpc/", env!("CARGO_PKG_VERSION"));

/// An image as it was downloaded.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// The type, by the first bytes. The `Content-Type` of the answer is never used.
    pub kind: Kind,
    /// The whole file.
    pub bytes: Vec<u8>,
}

/// Why there is no image. No text holds the link, a host or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// The link does not lead by https to a host of the list, nor to an allowed origin.
    #[error("the link leads to a host that is not allowed")]
    NotAllowed,
    /// The name of the host has no public address.
    #[error("the host of the link has no public address")]
    NotPublic,
    /// The name cannot be resolved, or no connection can be made.
    #[error("the host of the link cannot be reached")]
    Unreachable,
    /// The download took too long.
    #[error("the download took more than 5 s")]
    TimedOut,
    /// The answer is not HTTP, or ended early.
    #[error("the download broke off")]
    BrokenOff,
    /// The status is not 200; a redirect is such a status.
    #[error("the host of the link answered with status {0}")]
    Status(u16),
    /// The image has more bytes than the caller takes.
    #[error("the image is too large")]
    TooLarge,
    /// The file is neither JPEG nor PNG nor WebP.
    #[error("the file is neither JPEG nor PNG nor WebP")]
    NotAnImage,
}

impl FetchError {
    /// Whether the same link may give an image at another time.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut | Self::BrokenOff | Self::NotPublic => true,
            Self::Status(status) => status >= 500 || status == 429,
            Self::NotAllowed | Self::TooLarge | Self::NotAnImage => false,
        }
    }
}

/// Why nothing can be downloaded on this machine.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The certificate store cannot be read, or is empty.
    #[error(
        "pictures are downloaded by https, and the certificate store of this machine cannot be used: {0}; install ca-certificates, or set SSL_CERT_FILE or SSL_CERT_DIR"
    )]
    Certificates(#[from] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client,
}

/// Downloads images. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    hosts: Arc<PictureHosts>,
    /// For hosts of the list, if there are any. It needs the certificate store of the machine, and a sandbox
    /// does not.
    guarded: Option<Client>,
    /// For the origins that the operator names. It resolves names as the system does.
    named: Client,
}

impl Fetcher {
    /// Prepares downloads from `hosts`. Opens no connection.
    ///
    /// # Errors
    ///
    /// When https is needed, for a host of the list or an origin, and the machine's certificate store cannot
    /// be used.
    pub fn new(hosts: PictureHosts) -> Result<Self, Unusable> {
        let named = if hosts.has_https_origin() {
            encrypted(Client::builder())?
        } else {
            Client::builder().tls_certs_only([])
        };
        let named = finished(named)?;
        let guarded = hosts.has_listed().then(guarded).transpose()?;
        Ok(Self { hosts: Arc::new(hosts), guarded, named })
    }

    /// Downloads the image that `link` leads to, if it has at most `bytes_max` bytes. The link is a secret.
    ///
    /// # Errors
    ///
    /// See [`FetchError`].
    pub async fn fetch(&self, link: &str, bytes_max: usize) -> Result<Image, FetchError> {
        let end = Instant::now() + TIME_MAX;
        let url = Url::parse(link).map_err(|_| FetchError::NotAllowed)?;
        let client = match self.hosts.permission(&url) {
            Permission::No => None,
            Permission::Named => Some(&self.named),
            Permission::Listed => self.guarded.as_ref(),
        };
        let client = client.ok_or(FetchError::NotAllowed)?;
        let downloaded = timeout_at(end, download(client, url, bytes_max)).await;
        downloaded.unwrap_or(Err(FetchError::TimedOut))
    }
}

async fn download(client: &Client, url: Url, bytes_max: usize) -> Result<Image, FetchError> {
    let answer = client.get(url).send().await.map_err(|error| failure(&error))?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    if answer.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(FetchError::TooLarge);
    }
    read(answer, bytes_max).await
}

/// Reads the body, and stops at the first byte that makes it too large or no image.
async fn read(mut answer: Response, bytes_max: usize) -> Result<Image, FetchError> {
    let mut bytes = Vec::new();
    let mut kind = None;
    while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
        if kind.is_none() && bytes.len() >= Kind::BYTES_NEEDED {
            kind = Some(Kind::of(&bytes).ok_or(FetchError::NotAnImage)?);
        }
    }
    Ok(Image { kind: kind.ok_or(FetchError::NotAnImage)?, bytes })
}

/// The variant for an error of the client, whose own text holds the link.
fn failure(error: &reqwest::Error) -> FetchError {
    if sources(error).any(<dyn std::error::Error>::is::<NoPublicAddress>) {
        FetchError::NotPublic
    } else if error.is_connect() {
        FetchError::Unreachable
    } else {
        FetchError::BrokenOff
    }
}

/// The client for hosts of the list.
fn guarded() -> Result<Client, Unusable> {
    finished(encrypted(Client::builder())?.https_only(true).dns_resolver(Arc::new(PublicAddresses)))
}

/// With the certificate authorities of the machine.
fn encrypted(builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, Unusable> {
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?;
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(builder.tls_backend_preconfigured(tls))
}

/// With the settings that both clients share.
fn finished(builder: reqwest::ClientBuilder) -> Result<Client, Unusable> {
    let client = builder
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build();
    client.map_err(|_| Unusable::Client)
}

#[cfg(test)]
mod tests;
