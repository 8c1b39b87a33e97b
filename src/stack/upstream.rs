//! [`Upstream`]: one request to Hypersender's REST API, and nothing around it.
//!
//! Retries, cache and limits are layers above. Only this room calls Hypersender and reads its JSON.

mod failure;
mod hosts;
mod pool;
mod proxy;
mod wire;

use std::{
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use reqwest::{
    Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::time::{Instant, timeout};
use tower::Service;
use tracing::{debug, warn};
use url::Url;

use self::{
    failure::Unprocessed,
    pool::{Lease, Pool},
    wire::Reply,
};
pub use self::{hosts::LinkHosts, pool::Unusable, proxy::Proxy};
use super::clock::Clock;
use crate::{
    domain::{Absence, Answer, AttemptError, CacheInfo, Finding, Lookup, LookupError},
    telemetry::{AttemptSpan, KeyName, LookupMetrics as Metrics, chain},
};

/// How requests to Hypersender are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time-out of one attempt, from the connection to the last byte. The API itself may wait 5 s for a
    /// WhatsApp session.
    pub attempt_timeout: Duration,
    /// The longest wait that Hypersender may ask for. A longer hint is cut to it.
    pub retry_after_max: Duration,
    /// The hosts that links may lead to.
    pub link_hosts: LinkHosts,
    /// The proxy to use; without one, Hypersender is asked directly.
    pub proxy: Option<Proxy>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(6),
            retry_after_max: Duration::from_secs(5 * 60),
            link_hosts: LinkHosts::default(),
            proxy: None,
        }
    }
}

/// The longest body that is read. The documented answers have less than 1 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The REST API as a service: each call is one attempt.
#[derive(Clone, Debug)]
pub struct Upstream {
    pool: Pool,
    base_url: Url,
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Upstream {
    /// Prepares requests to the API whose root, without the instance, is `base_url`. Opens no connection.
    ///
    /// # Errors
    ///
    /// When the root or the proxy is an https URL and the machine's certificate store cannot be used, or when
    /// the HTTP client cannot be made.
    pub fn new(
        base_url: Url,
        settings: Settings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Unusable> {
        let pool = Pool::new(&base_url, settings.proxy.clone())?;
        Ok(Self { pool, base_url, settings: Arc::new(settings), clock, metrics })
    }

    async fn attempt(self, lookup: Lookup) -> Result<Answer, AttemptError> {
        let (start, counted) = (Instant::now(), self.metrics.attempt());
        let mut span = AttemptSpan::begin(&self.base_url, &lookup);
        let lease = self.pool.lease();
        let asked = timeout(self.settings.attempt_timeout, self.ask(&lookup, &lease, &mut span)).await;
        lease.end(asked.is_ok());
        let result = asked.unwrap_or_else(|_| {
            let (key, instance) = (KeyName::from(&lookup.key), lookup.key.scope.instance.as_str());
            warn!(%key, instance, proxy = self.pool.proxy(), "upstream did not answer in time");
            Err(LookupError::TimedOut { retry_after: None }.into())
        });
        let is_from_api = result.as_ref().err().is_some_and(|failure| failure.is_from_api);
        let result = result.map_err(|failure| failure.error);
        span.end(&result);
        counted.end(&result);
        let (fetched, took, cache) = (self.clock.now(), start.elapsed(), CacheInfo::FETCHED);
        result
            .map(|finding| Answer { finding, fetched, took, cache })
            .map_err(|error| AttemptError { error, is_from_api })
    }

    async fn ask(
        &self,
        lookup: &Lookup,
        lease: &Lease<'_>,
        span: &mut AttemptSpan,
    ) -> Result<Finding, AttemptError> {
        let (key, instance) = (KeyName::from(&lookup.key), lookup.key.scope.instance.as_str());
        let read = async {
            let response = self.send(lookup, lease).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = read_at_most(response, BODY_BYTES_MAX).await?;
            Ok(Reply { status, headers, body })
        };
        let reply = read.await.map_err(|error: reqwest::Error| {
            lease.broke();
            let (error, failure) = failure::classify(error);
            let proxy = self.pool.proxy();
            warn!(%key, instance, proxy, error = chain(&error), "upstream cannot be reached");
            failure
        })?;
        let (status, request) = (reply.status.as_u16(), wire::request_id(&reply.headers));
        span.answered(status, request);
        let (owner, now) = (lookup.credential.owner(), self.clock.now().wall);
        let read = wire::read(&reply, owner, now, self.settings.retry_after_max);
        match read {
            // The pause that follows is logged once, for all requests that are blocked together.
            Err(failure @ AttemptError { error: LookupError::Blocked { .. }, .. }) => {
                debug!(%key, instance, status, request, "a CDN blocks this machine's address");
                Err(failure)
            }
            Err(failure) => {
                warn!(%key, instance, status, request, reason = %failure.error, "upstream gave no answer");
                Err(failure)
            }
            Ok(Finding::Picture(link)) if !self.settings.link_hosts.allow(&link) => {
                warn!(%key, instance, request, "upstream gave a link to a host that is not allowed");
                Ok(Finding::Absent(Absence::ForeignLink))
            }
            Ok(finding) => {
                if matches!(&finding, Finding::Picture(link) if link.is_dead(self.clock.now().wall)) {
                    self.metrics.dead_link();
                    warn!(%key, instance, request, "upstream gave a link that is already dead");
                }
                Ok(finding)
            }
        }
    }

    /// Sends the request, and sends it again if Hypersender certainly did not process it. All of that counts
    /// as one attempt and is bounded by its time-out.
    async fn send(&self, lookup: &Lookup, lease: &Lease<'_>) -> Result<Response, reqwest::Error> {
        let mut unprocessed = Vec::new();
        let times =
            |unprocessed: &[Unprocessed], reason| unprocessed.iter().filter(|r| **r == reason).count();
        loop {
            let is_crowded = times(&unprocessed, Unprocessed::SentAway) > failure::SHARED_MAX;
            let client = if is_crowded { lease.unshared()? } else { lease.client().clone() };
            let sent = client.get(self.url(lookup)).headers(headers(lookup)).send().await;
            let reason = sent.as_ref().err().and_then(|error| Unprocessed::of(error));
            match reason {
                Some(reason) if times(&unprocessed, reason) < reason.resends_max() => {
                    unprocessed.push(reason);
                }
                _ => return sent,
            }
            debug!(key = %KeyName::from(&lookup.key), ?reason, "a connection did not take the request, so it is sent again");
        }
    }

    fn url(&self, lookup: &Lookup) -> Url {
        let mut url = self.base_url.clone();
        let instance = lookup.key.scope.instance.as_str();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend([instance, "contacts", "profile-picture"]);
        }
        url.query_pairs_mut().append_pair("chat_id", lookup.key.chat.as_str());
        url
    }
}

/// Whether `url` is on this machine, so that plain text is safe. Elsewhere, everyone on the network path
/// could read the token.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// The headers that Hypersender's documentation asks for. Without `Accept`, a rejected token may be answered
/// by a redirect to a login page.
fn headers(lookup: &Lookup) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(ACCEPT, json.clone()), (CONTENT_TYPE, json)]);
    let bearer = format!("Bearer {}", lookup.credential.expose_token());
    if let Ok(mut bearer) = HeaderValue::try_from(bearer) {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    headers
}

/// The body, or `None` when it is longer than `limit` bytes. The rest is not read.
async fn read_at_most(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

impl Service<Lookup> for Upstream {
    type Response = Answer;
    type Error = AttemptError;
    type Future = BoxFuture<'static, Result<Answer, AttemptError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> Self::Future {
        Box::pin(self.clone().attempt(lookup))
    }
}
