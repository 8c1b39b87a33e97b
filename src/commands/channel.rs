//! A channel to a running service, for the subcommands that ask it.

use humantime::format_duration;
use tokio::{net::lookup_host, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    config::{Address, ClientTls, Target},
    telemetry::chain,
};

/// A channel to the service that `target` names.
pub async fn connect(target: &Target) -> Result<Channel, String> {
    let (address, limit) = (&target.address, target.timeout);
    let opened = timeout(limit, open(target)).await;
    let late = || format!("no connection within {}", format_duration(limit));
    opened.unwrap_or_else(|_| Err(late())).map_err(|fault| format!("cannot connect to {address}: {fault}"))
}

async fn open(target: &Target) -> Result<Channel, String> {
    let address = &target.address;
    if let Address::Name { host, port } = address {
        let resolved = lookup_host((host.as_str(), *port)).await;
        let _ = resolved.map_err(|error| format!("the name does not resolve ({})", chain(&error)))?;
    }
    let cannot = |error: tonic::transport::Error| chain(&error);
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(cannot)?;
    if let Some(tls) = &target.tls {
        endpoint = endpoint.tls_config(config(tls)).map_err(cannot)?;
    }
    endpoint.connect().await.map_err(cannot)
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
