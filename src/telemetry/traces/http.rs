//! [`Client`]: the HTTP client for OTLP over HTTP.

use std::time::Duration;

use http::{Request, Response, Uri, uri::Scheme};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use tokio::runtime::Handle;
use tracing::debug;

use crate::telemetry::chain;

/// The longest answer that is read. Collectors answer with a few bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Sends on the runtime in which it was made, because the SDK waits for the answer on a thread that has no
/// runtime.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Client {
    /// Prepares requests to `endpoint` with this time-out. Opens no connection.
    ///
    /// # Errors
    ///
    /// When the endpoint is an https URL and the machine's certificate store cannot be used.
    pub fn new(endpoint: &Uri, timeout: Duration) -> Result<Self, reqwest::Error> {
        let builder = match endpoint.scheme() {
            // Without TLS no certificate is checked, so the machine needs no certificate store.
            Some(scheme) if *scheme == Scheme::HTTP => reqwest::Client::builder().tls_certs_only([]),
            _ => reqwest::Client::builder(),
        };
        let http = builder
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .build()?;
        Ok(Self { http, runtime: Handle::current() })
    }
}

#[tonic::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { send(http, request).await });
        let answer = sent.await?;
        answer.map_err(|error| {
            let error = error.without_url();
            debug!(error = chain(&error), "the collector cannot be reached");
            error.into()
        })
    }
}

async fn send(http: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, reqwest::Error> {
    let mut answer = http.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
