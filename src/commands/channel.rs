//! A gRPC channel to a running service, for `get`, `sync` and `health`.

use humantime::format_duration;
use tokio::{net::lookup_host, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

use super::unreachable::explain;
use crate::{
    config::{Address, ClientTls, Target},
    telemetry::chain,
};

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

async fn open(target: &Target) -> Result<Channel, Error> {
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.address))?;
    if let Some(tls) = &target.tls {
        endpoint = endpoint.tls_config(config(tls))?;
    }
    endpoint.connect().await
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
