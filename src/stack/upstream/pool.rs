//! [`Pool`]: the connections to Hypersender, and how those that may be dead are left behind.
//!
//! A connection can die without a word, by NAT that forgets it, a fail-over or a stuck proxy: writes succeed, and no answer
//! comes. PINGs find that out on HTTP/2 and unacknowledged packets on TCP. Whatever is left shows as an attempt without an
//! answer, and then all connections of its time are given up together.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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
/// Below the minute after which load balancers close idle connections, so that few calls meet a closed one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// An HTTP/2 connection with requests on it that has been silent for so long is sent a PING ...
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// ... and has so long to answer it. Hypersender may think for longer; its PING layer does not.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence after which a connection counts as dead: the sum of the two, and below the 6 s of an attempt.
const SILENCE_MAX: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
const USER_AGENT: &str = concat!("hypersender-grpc/", env!("CARGO_PKG_VERSION"));

/// Why Hypersender cannot be asked from this machine at all.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The machine's certificate store cannot be read, or is empty.
    #[error("the certificate store of this machine cannot be used: {0}")]
    Certificates(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made: {}", chain(.0))]
    Client(#[source] reqwest::Error),
}

/// Connections to one host, in generations: one is current, and those before it live as long as the requests on them.
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

/// Without the client: that holds the password of a proxy.
impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Generation").field(&self.number).finish()
    }
}

/// What every client is made of. The certificates are read once, and TLS sessions are resumed across generations.
#[derive(Debug)]
struct Recipe {
    tls: ClientConfig,
    proxy: Option<(Proxy, String)>,
}

impl Pool {
    /// Prepares connections to the host of `base_url` through `proxy`; opens none. Plain HTTP on loopback goes past the proxy,
    /// or the token would leave this machine in the clear.
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
        let Generation { number, client } = self.lock().clone();
        Lease { pool: self, generation: number, client, start: Instant::now(), in_use: true }
    }

    /// Where the proxy is, if there is one.
    pub fn proxy(&self) -> Option<&str> {
        self.recipe.proxy.as_ref().map(|(_, name)| name.as_str())
    }

    fn lock(&self) -> MutexGuard<'_, Generation> {
        // Whole after any panic: nothing below panics between its changes.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes new connections for all attempts from now on, unless that has been done since `generation` was current: many
    /// attempts that time out together are one reason.
    fn retire(&self, generation: u64) {
        let mut current = self.lock();
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
            // Its own re-sending has one bound for all reasons, and leaves connections that closed too early out.
            .retry(reqwest::retry::never())
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

/// How connections are encrypted. Where none is, no certificate store is needed, and none is read.
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

/// The connections that one attempt may use. An attempt that is given up from outside after a long silence retires them,
/// as one that timed out does.
pub struct Lease<'a> {
    pool: &'a Pool,
    generation: u64,
    client: Client,
    start: Instant,
    in_use: bool,
}

impl Lease<'_> {
    /// The HTTP client that has them.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The connection broke. After a silence it was found dead, by a PING or by the system, and others of its time may be dead
    /// as well.
    pub fn broke(&self) {
        if self.start.elapsed() >= PING_INTERVAL {
            self.pool.retire(self.generation);
        }
    }

    /// The attempt has ended; without an answer in time the connections are used no more.
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
        let generation = || pool.lock().number;
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
