//! A gRPC channel to a running service, for `get`, `sync` and `health`.

use std::time::Duration;

use humantime::format_duration;
use tokio::{net::lookup_host, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

use super::unreachable::explain;
use crate::{
    config::{Address, ClientTls, Target},
    telemetry::chain,
};

/// The interval of PINGs while a call is open, and the time for the peer to acknowledge one. Without them, a
/// connection that a NAT or a firewall has forgotten stays open, and the next call would use it, too. The
/// service acknowledges PINGs at any rate.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel to the service of `target`. The time-out of `target` covers name resolution, connection and
/// handshake together.
///
/// # Errors
///
/// The reason why there is no connection, and what to change on the command line.
pub async fn connect(target: &Target) -> Result<Channel, String> {
    let (address, limit) = (&target.address, target.timeout);
    let opening = async {
        if let Address::Name { host, port } = address {
            let resolved = lookup_host((host.as_str(), *port)).await;
            let cannot =
                |error| format!("cannot connect to {address}: the name does not resolve ({})", chain(&error));
            resolved.map(drop).map_err(cannot)?;
        }
        open(target).await.map_err(|error| explain(target, &error))
    };
    let late = || format!("cannot connect to {address}: no connection within {}", format_duration(limit));
    timeout(limit, opening).await.unwrap_or_else(|_| Err(late()))
}

/// A channel to the service of `target` that opens its connection with the first call.
///
/// # Errors
///
/// When the target cannot be used.
pub fn connect_lazily(target: &Target) -> Result<Channel, Error> {
    Ok(endpoint(target)?.connect_lazy())
}

async fn open(target: &Target) -> Result<Channel, Error> {
    endpoint(target)?.connect().await
}

fn endpoint(target: &Target) -> Result<Endpoint, Error> {
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.address))?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    if let Some(tls) = &target.tls {
        endpoint = endpoint.tls_config(config(tls))?;
    }
    Ok(endpoint)
}

fn config(tls: &ClientTls) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
    if let Some(name) = &tls.domain {
        config = config.domain_name(name);
    }
    if let Some([cert, key]) = &tls.identity {
        config = config.identity(Identity::from_pem(cert, key));
    }
    config
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, DuplexStream},
        time::Instant,
    };
    use tonic::transport::Uri;

    use super::*;
    use crate::grpc::contact::{StreamProfilePicturesRequest, contact_service_client::ContactServiceClient};

    /// A PING without flags: length 8, type 6, stream 0. Its payload follows.
    const PING: [u8; 9] = [0, 0, 8, 6, 0, 0, 0, 0, 0];

    fn target() -> Target {
        let address = "127.0.0.1:50051".parse().unwrap();
        Target { address, timeout: Duration::from_secs(10), tls: None }
    }

    /// Reads until the connection closes, and returns when the first PING came.
    async fn first_ping(mut peer: DuplexStream) -> Option<Instant> {
        let (mut seen, mut at) = (Vec::new(), None);
        while peer.read_buf(&mut seen).await.is_ok_and(|count| count > 0) {
            if at.is_none() && seen.windows(PING.len()).any(|window| window == PING) {
                at = Some(Instant::now());
            }
        }
        at
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_silent_is_asked_and_then_closed() {
        let (client, peer) = tokio::io::duplex(64 * 1024);
        let mut client = Some(TokioIo::new(client));
        let connector = tower::service_fn(move |_: Uri| {
            std::future::ready(client.take().ok_or(std::io::Error::other("connected once")))
        });
        let endpoint = endpoint(&target()).unwrap();
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let begin = Instant::now();
        let peer = tokio::spawn(first_ping(peer));
        let mut client = ContactServiceClient::new(channel);
        client.stream_profile_pictures(StreamProfilePicturesRequest::default()).await.unwrap_err();
        assert_eq!(begin.elapsed().as_secs(), (PING_INTERVAL + PING_TIMEOUT).as_secs());
        let ping = peer.await.unwrap().expect("a PING was sent");
        assert_eq!(ping.duration_since(begin).as_secs(), PING_INTERVAL.as_secs());
    }
}
