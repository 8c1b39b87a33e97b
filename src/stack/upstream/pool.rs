//! [`Pool`]: the connections to Hypersender, and how those that may be dead are replaced.
//!
//! A connection can die silently, because of NAT, a fail-over or a stuck proxy: writes succeed and no answer
//! comes. An unanswered PING of HTTP/2 shows this, and so do unacknowledged packets of TCP. In all other
//! cases an attempt times out, and then all connections of its generation are replaced together.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use reqwest::Client;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_platform_verifier::BuilderVerifierExt;
use thiserror::Error;
use tokio::time::{Duration, Instant};
use tracing::{info, warn};
use url::Url;

use super::proxy::Proxy;
use crate::telemetry::chain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than the minute after which load balancers close idle connections, so that few requests meet a
/// closed one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// An HTTP/2 connection with requests in progress is sent a PING after this much silence ...
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// ... and must answer it within this time. Hypersender may take longer to answer a request, but not to
/// answer a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The silence after which a connection counts as dead: the sum of the two. It is shorter than an attempt of
/// 6 s.
const SILENCE_MAX: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
const USER_AGENT: &str = concat!("hypersender-grpc/", env!("CARGO_PKG_VERSION"));

/// Why no request to Hypersender can be made from this machine.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The machine's certificate store cannot be read, or is empty.
    #[error("the certificate store of this machine cannot be used: {0}")]
    Certificates(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made: {}", chain(.0))]
    Client(#[source] reqwest::Error),
}

/// Connections to one host, in generations. One generation is current. The connections of earlier ones live
/// until their requests have ended.
#[derive(Clone, Debug)]
pub struct Pool {
    current: Arc<Mutex<Generation>>,
    recipe: Arc<Recipe>,
}

#[derive(Clone)]
struct Generation {
    number: u64,
    client: Client,
}

/// The client is left out, because it holds the password of a proxy.
impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Generation").field(&self.number).finish()
    }
}

/// The parts that every client is made of. Certificates are read once, and TLS sessions are resumed across
/// generations.
#[derive(Debug)]
struct Recipe {
    tls: ClientConfig,
    proxy: Option<(Proxy, String)>,
}

impl Pool {
    /// Prepares connections to the host of `base_url` through `proxy`, and opens none. Plain HTTP on loopback
    /// bypasses the proxy, because the token would otherwise leave this machine in plain text.
    ///
    /// # Errors
    ///
    /// When the machine's certificate store is needed and cannot be used.
    pub fn new(base_url: &Url, proxy: Option<Proxy>) -> Result<Self, Unusable> {
        let is_encrypted = base_url.scheme() == "https";
        let proxy = proxy.filter(|_| Proxy::is_used_for(base_url));
        let needs_certificates = is_encrypted || proxy.as_ref().is_some_and(Proxy::is_encrypted);
        let tls = tls(needs_certificates).map_err(Unusable::Certificates)?;
        let proxy = proxy.map(|proxy| {
            let name = proxy.to_string();
            info!(proxy = name, "upstream is asked through a proxy");
            (proxy, name)
        });
        let recipe = Recipe { tls, proxy };
        let client = recipe.client().map_err(Unusable::Client)?;
        let current = Arc::new(Mutex::new(Generation { number: 0, client }));
        Ok(Self { current, recipe: Arc::new(recipe) })
    }

    /// The current connections, for one attempt.
    pub fn lease(&self) -> Lease<'_> {
        let Generation { number, client } = self.current.lock().clone();
        Lease { pool: self, generation: number, client, start: Instant::now(), in_use: true }
    }

    /// The address of the proxy, if there is one.
    pub fn proxy(&self) -> Option<&str> {
        self.recipe.proxy.as_ref().map(|(_, name)| name.as_str())
    }

    /// Makes new connections for all later attempts, unless that has happened since `generation` was current.
    /// Many attempts that time out together replace the connections only once.
    fn retire(&self, generation: u64) {
        let mut current = self.current.lock();
        if current.number != generation {
            return;
        }
        match self.recipe.client() {
            Ok(client) => {
                *current = Generation { number: generation + 1, client };
                info!("no answer: further requests go over new connections");
            }
            Err(error) => warn!(error = chain(&error), "cannot replace connections that may be dead"),
        }
    }
}

impl Recipe {
    fn client(&self) -> Result<Client, reqwest::Error> {
        let builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // reqwest's own retries have one bound for all reasons, and do not cover a connection that closes
            // before the request is written. `Upstream::send` sends again instead.
            .retry(reqwest::retry::never())
            // The proxy variables of the environment are not used (rule 21).
            .no_proxy()
            .referer(false);
        let builder = match &self.proxy {
            Some((proxy, _)) => builder.proxy(proxy.to_client()?),
            None => builder,
        };
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(SILENCE_MAX);
        builder.build()
    }
}

/// The TLS configuration. Without TLS no certificate store is needed, and none is read.
fn tls(needed: bool) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?;
    let builder = if needed {
        builder.with_platform_verifier()?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// The connections that one attempt may use. An attempt that is cancelled after a long silence replaces them,
/// like one that timed out.
pub struct Lease<'a> {
    pool: &'a Pool,
    generation: u64,
    client: Client,
    start: Instant,
    in_use: bool,
}

impl Lease<'_> {
    /// The HTTP client that holds the connections.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// An HTTP client whose connection no other attempt uses.
    ///
    /// # Errors
    ///
    /// When the client cannot be made.
    pub fn unshared(&self) -> Result<Client, reqwest::Error> {
        self.pool.recipe.client()
    }

    /// Reports that the connection broke. If that came after a silence, a PING or the system found it dead,
    /// and other connections of its generation may be dead as well.
    pub fn broke(&self) {
        if self.start.elapsed() >= PING_INTERVAL {
            self.pool.retire(self.generation);
        }
    }

    /// Ends the attempt. If there was no answer in time, the connections are not used any more.
    pub fn end(mut self, in_time: bool) {
        self.in_use = false;
        if !in_time {
            self.pool.retire(self.generation);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.in_use && self.start.elapsed() >= SILENCE_MAX {
            self.pool.retire(self.generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_replaced_once_for_all_attempts_of_their_time_without_an_answer() {
        let pool = Pool::new(&"http://127.0.0.1".parse().unwrap(), None).unwrap();
        let generation = || pool.current.lock().number;
        for _ in 0..3 {
            let before = generation();
            let [answered, first, second, short, long] = std::array::from_fn(|_| pool.lease());
            drop(short);
            answered.broke();
            answered.end(true);
            assert_eq!(generation(), before, "given up, broken and answered at once");
            first.end(false);
            second.end(false);
            assert_eq!(generation(), before + 1, "two that timed out");
            tokio::time::advance(SILENCE_MAX).await;
            drop(long);
            assert_eq!(generation(), before + 1, "given up after a silence, on connections of before");
            let long = pool.lease();
            tokio::time::advance(SILENCE_MAX).await;
            drop(long);
            assert_eq!(generation(), before + 2, "given up after a silence");
            let broken = pool.lease();
            tokio::time::advance(PING_INTERVAL).await;
            broken.broke();
            broken.end(true);
            assert_eq!(generation(), before + 3, "broken after a silence");
        }
    }
}
