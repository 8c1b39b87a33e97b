//! [`Client`]: how OTLP over HTTP sends its requests.

use std::time::Duration;

use http::{Request, Response, Uri, uri::Scheme};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use tokio::runtime::Handle;
use tracing::debug;

use crate::telemetry::chain;

/// A collector answers with a few bytes; a longer answer than this is none.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Sends on the runtime that it is made within: the thread of the SDK that waits for the answer has none.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Client {
    /// Prepares to ask `endpoint`, for `timeout` at most; opens no connection.
    ///
    /// # Errors
    ///
    /// When the endpoint is one of https and the machine's certificate store cannot be used.
    pub fn new(endpoint: &Uri, timeout: Duration) -> Result<Self, reqwest::Error> {
        let builder = match endpoint.scheme() {
            // Without TLS nobody's certificate is judged, and a machine without certificates will do.
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
